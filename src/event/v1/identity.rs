//! Events of device trust, version 1.

use serde::{Deserialize, Serialize};

use crate::base::DeviceId;
use crate::event::identity;

/// Kind 78: which certificates were revoked with the device stands in the state alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRevoked {
    /// The device.
    pub device: DeviceId,
}

impl From<DeviceRevoked> for identity::DeviceRevoked {
    fn from(old: DeviceRevoked) -> Self {
        Self { device: old.device, certificates: None }
    }
}
