//! What a daemon tells the log about itself and about who came.

use crate::event::Event;
use crate::event::identity::{ConnectionsRefused, DaemonStarted, DaemonStopped, DevicesSeen, RefusalNote, SeenNote};
use crate::identity;

use super::error::Error;
use super::identity_handle::Identity;

impl Identity {
    fn tell(&self, event: Event) -> Result<(), Error> {
        self.core.execute(&self.caller, |_, _| Ok::<_, Error>((vec![event], ()))).map(|_| ())
    }

    /// Records that the daemon began to serve.
    ///
    /// # Errors
    /// As a write.
    pub fn daemon_started(&self, listeners: Vec<String>) -> Result<(), Error> {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        self.tell(Event::DaemonStarted(DaemonStarted { program, listeners }))
    }

    /// Records that the daemon stopped, and how many connections it had to cut.
    ///
    /// # Errors
    /// As a write.
    pub fn daemon_stopped(&self, cut: u32) -> Result<(), Error> {
        self.tell(Event::DaemonStopped(DaemonStopped { cut }))
    }

    /// Records refused connections and requests, counted. None is no event.
    ///
    /// # Errors
    /// As a write.
    pub fn connections_refused(&self, mut refusals: Vec<RefusalNote>) -> Result<(), Error> {
        if refusals.is_empty() {
            return Ok(());
        }
        for note in &mut refusals {
            note.peer = identity::bounded(&note.peer);
        }
        self.tell(Event::ConnectionsRefused(ConnectionsRefused { refusals }))
    }

    /// Records when devices were last seen; those that are on the list no more are left out. None is no
    /// event.
    ///
    /// # Errors
    /// As a write.
    pub fn devices_seen(&self, mut devices: Vec<SeenNote>) -> Result<(), Error> {
        for note in &mut devices {
            note.peer = identity::bounded(&note.peer);
        }
        self.core
            .execute(&self.caller, |state, _| {
                let mut known = Vec::with_capacity(devices.len());
                for note in devices {
                    if identity::find_device(state, note.device)?.is_some() {
                        known.push(note);
                    }
                }
                let seen = (!known.is_empty()).then_some(Event::DevicesSeen(DevicesSeen { devices: known }));
                Ok::<_, Error>((Vec::from_iter(seen), ()))
            })
            .map(|_| ())
    }
}
