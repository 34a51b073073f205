//! What an event is about, across the domains: for filters and for whole stories.

use crate::base::{DeviceId, PairingId, ProfileId, RequestId, SecretPath, Serial, Timestamp};

use super::Event;
use super::auth::{CredentialSource, Profile};
use super::compromise::{Concern, Remedy};
use super::identity::{EndCause, Subject};

/// The subjects of one event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Devices.
    pub devices: Vec<DeviceId>,
    /// Pairing codes.
    pub pairings: Vec<PairingId>,
    /// Pairing requests.
    pub requests: Vec<RequestId>,
    /// Certificates.
    pub certificates: Vec<Serial>,
    /// Profiles.
    pub profiles: Vec<ProfileId>,
    /// Secrets that profiles or compromises in it name.
    pub named: Vec<SecretPath>,
}

impl CredentialSource {
    /// Every secret that it names.
    pub fn places(&self) -> impl Iterator<Item = &SecretPath> {
        let (key, oauth) = match self {
            Self::ApiKey(key) => (Some(key), None),
            Self::Oauth(source) => (None, Some(source)),
        };
        let more = oauth.into_iter().flat_map(|source| {
            [Some(&source.access), source.refresh.as_ref(), source.client_secret.as_ref()].into_iter().flatten()
        });
        key.into_iter().chain(more)
    }
}

impl About {
    fn profile(mut self, profile: &ProfileId) -> Self {
        self.profiles.push(profile.clone());
        self
    }

    fn whole(self, profile: &Profile) -> Self {
        let mut about = self.profile(&profile.id);
        about.named = profile.credential.places().cloned().collect();
        about
    }

    fn device(mut self, device: DeviceId) -> Self {
        self.devices.push(device);
        self
    }

    fn pairing(mut self, pairing: PairingId) -> Self {
        self.pairings.push(pairing);
        self
    }

    fn concern(mut self, concern: &Concern) -> Self {
        match concern {
            Concern::Secret(path) => self.named.push(path.clone()),
            Concern::Device(device) => self.devices.push(*device),
            Concern::Profile(profile) => self.profiles.push(profile.clone()),
        }
        self
    }

    fn remedy(mut self, item: &Remedy) -> Self {
        match item {
            Remedy::RevokeDevice(device) => self.devices.push(*device),
            Remedy::RevokeCertificate(serial) => self.certificates.push(*serial),
            Remedy::DisableProfile(profile) => self.profiles.push(profile.clone()),
            Remedy::ReplaceSecret { path, .. } => self.named.push(path.clone()),
        }
        self
    }

    fn request(mut self, request: RequestId) -> Self {
        self.requests.push(request);
        self
    }
}

impl Event {
    /// What it is about, beside the secrets that [`Event::secret_refs`] gives.
    #[must_use]
    pub fn about(&self) -> About {
        let about = About::default();
        match self {
            Self::PairingMinted(event) => about.pairing(event.pairing),
            Self::PairingAttempted(event) => about.pairing(event.pairing),
            Self::PairingEnded(event) => about.pairing(event.pairing),
            Self::PairingRequested(event) => about.pairing(event.pairing).request(event.request).device(event.device),
            Self::PairingApproved(event) => {
                let mut about = about.request(event.request).device(event.device);
                about.certificates.push(event.serial);
                about
            }
            Self::PairingDenied(event) => about.request(event.request).device(event.device),
            Self::RequestExpired(event) => about.request(event.request).device(event.device),
            Self::PairingRefused(event) => About { pairings: event.pairing.into_iter().collect(), ..about },
            Self::DevicePaired(event) => about.device(event.device),
            Self::DeviceRenamed(event) => about.device(event.device),
            Self::DeviceRevoked(event) => {
                let certificates = event.certificates.clone().unwrap_or_default();
                About { certificates, ..about.device(event.device) }
            }
            Self::DeviceCleared(event) => about.device(event.device),
            Self::DeviceRemoved(event) => about.device(event.device),
            Self::DeviceGranted(event) => about.device(event.device),
            Self::CertificateIssued(event) => {
                let devices = match event.subject {
                    Subject::Device(device) => vec![device],
                    Subject::Server(_) => Vec::new(),
                };
                About { devices, certificates: vec![event.serial], ..about }
            }
            Self::DevicesImported(event) => {
                let certificates =
                    event.devices.iter().flat_map(|one| one.certificates.iter().map(|held| held.serial)).collect();
                About { devices: event.devices.iter().map(|one| one.device).collect(), certificates, ..about }
            }
            Self::CertificateRevoked(event) => About { certificates: vec![event.serial], ..about },
            Self::ConnectionsRefused(event) => {
                About { devices: event.refusals.iter().filter_map(|note| note.device).collect(), ..about }
            }
            Self::DevicesSeen(event) => {
                About { devices: event.devices.iter().map(|note| note.device).collect(), ..about }
            }
            other => other.about_profiles(about),
        }
    }

    fn about_profiles(&self, about: About) -> About {
        match self {
            Self::ProfileSet(event) => about.whole(&event.profile),
            Self::ProfileLoggedIn(event) => about.whole(&event.profile),
            Self::ProfileEnabled(event) => about.profile(&event.profile),
            Self::ProfileDeleted(event) => about.profile(&event.profile),
            Self::ProfileCleared(event) => about.profile(&event.profile),
            Self::OrderSet(event) => About { profiles: event.profiles.clone(), ..about },
            Self::RefreshStarted(event) => about.profile(&event.profile),
            Self::RefreshSucceeded(event) => about.profile(&event.profile),
            Self::RefreshFailed(event) => about.profile(&event.profile),
            Self::ProfileLoggedOut(event) => about.profile(&event.profile),
            Self::UsageReported(event) => {
                About { profiles: event.notes.iter().map(|note| note.profile.clone()).collect(), ..about }
            }
            Self::CredentialsImported(event) => {
                let named = event.profiles.iter().flat_map(|one| one.profile.credential.places().cloned()).collect();
                let profiles = event.profiles.iter().map(|one| one.profile.id.clone()).collect();
                About { profiles, named, ..about }
            }
            Self::FailedOver(event) => about.profile(&event.preferred).profile(&event.chosen),
            Self::CompromiseDeclared(event) => event.items.iter().fold(about.concern(&event.concern), About::remedy),
            Self::CompromiseClosed(event) => about.concern(&event.concern),
            _ => about,
        }
    }

    /// Whether it records a refusal or a failure.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::CommandRefused(_)
            | Self::ConnectionsRefused(_)
            | Self::PairingRefused(_)
            | Self::PairingDenied(_)
            | Self::RefreshFailed(_)
            | Self::AnchorConflict(_) => true,
            Self::PairingEnded(event) => event.cause == EndCause::Burned,
            Self::ReferencesResolved(event) => event.notes.iter().any(|note| note.reason.is_some()),
            _ => false,
        }
    }

    /// From when to when it happened, where it gathers what happened before it was recorded at `recorded`.
    #[must_use]
    pub fn span(&self, recorded: Timestamp) -> (Timestamp, Timestamp) {
        match self {
            Self::SecretsRead(event) => {
                let first = event.reads.iter().map(|note| note.first).min().unwrap_or(recorded);
                let last = event.reads.iter().map(|note| note.last).max().unwrap_or(recorded);
                (first, last)
            }
            _ => (recorded, recorded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::identity::{PairingApproved, PairingDenied, PairingEnded, RequestExpired};

    #[test]
    fn a_request_is_a_subject_and_a_denial_a_refusal() {
        let (request, device) = (RequestId::from_bytes([1; 8]), DeviceId::from_bytes([2; 16]));
        let denied = Event::PairingDenied(PairingDenied { request, device, reason: None });
        let expired = Event::RequestExpired(RequestExpired { request, device });
        let ended = |cause| Event::PairingEnded(PairingEnded { pairing: PairingId::from_bytes([3; 8]), cause });
        let about = About { requests: vec![request], devices: vec![device], ..About::default() };
        for event in [&denied, &expired] {
            assert_eq!(event.about(), about);
        }
        let serial = Serial::new(7, [1; 8]);
        let approved = Event::PairingApproved(PairingApproved { request, device, sas_compared: true, serial });
        assert_eq!(approved.about(), About { certificates: vec![serial], ..about });
        let refusals = [&denied, &expired, &ended(EndCause::Burned), &ended(EndCause::Expired)].map(Event::is_refusal);
        assert_eq!(refusals, [true, false, true, false]);
    }
}
