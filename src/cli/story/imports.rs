//! What was imported and exported, as a person would tell it.

use crate::event::Event;

use super::count;

/// One sentence about such an event, or the kind's name.
pub fn summary(event: &Event) -> String {
    match event {
        Event::StoreImported(event) => {
            let parts = [
                (event.secrets, "secret version"),
                (event.devices, "device"),
                (event.profiles, "profile"),
                (event.orders, "order"),
            ];
            let parts: Vec<_> = parts.into_iter().filter(|(number, _)| *number > 0).collect();
            let told: Vec<_> = parts.into_iter().map(|(number, noun)| count(number, noun)).collect();
            let told = if told.is_empty() { "nothing more".to_owned() } else { told.join(", ") };
            let left = if event.refused > 0 {
                format!("; left {} behind", count(event.refused, "item"))
            } else {
                String::new()
            };
            format!("imported {told} from {} ({}){left}", event.origin, event.form)
        }
        Event::SecretsImported(event) => {
            format!("brought {} along", count(event.secrets.len() as u64, "secret version"))
        }
        Event::CaImported(event) => {
            format!("trusts the root of another store as CA generation {}; it issues nothing", event.generation)
        }
        Event::DevicesImported(event) => {
            let revoked = event.devices.iter().filter(|one| one.revoked.is_some()).count();
            let revoked = if revoked > 0 { format!(", {revoked} of them revoked") } else { String::new() };
            let loose = event.revoked.len() as u64;
            let loose =
                if loose > 0 { format!(", and {}", count(loose, "other revoked certificate")) } else { String::new() };
            format!("brought {} along{revoked}{loose}", count(event.devices.len() as u64, "device"))
        }
        Event::CredentialsImported(event) => {
            let (profiles, orders) = (event.profiles.len() as u64, event.orders.len() as u64);
            format!("brought {} and {} along", count(profiles, "profile"), count(orders, "order"))
        }
        Event::VaultExported(event) => {
            let to = match event.recipients.len() as u64 {
                0 => "in the clear".to_owned(),
                number => format!("encrypted to {}", count(number, "recipient")),
            };
            format!("gave out {} ({}) at once, {to}", count(event.secrets, "secret"), count(event.versions, "version"))
        }
        _ => event.kind().name().replace('_', " "),
    }
}
