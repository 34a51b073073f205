//! `log why`: a thing's whole story across the domains.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::{Access, Invocation};
use crate::cli::output::Style;
use crate::cli::{progress, story, time};
use crate::engine::Relation;
use crate::event::Event;
use crate::event::compromise::Concern;
use crate::event::import::OriginTimes;

use super::{header, print_entry};

/// Arguments of `log why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// A secret (SCOPE/NAME), a device's id or a profile's id
    #[arg(value_name = "REF|DEVICE|PROFILE")]
    thing: String,
}

/// What a person names: a reference holds a slash, a device's id is 32 hexadecimal digits.
pub fn concern(text: &str) -> Result<Concern, Failure> {
    if let Ok(device) = text.parse() {
        return Ok(Concern::Device(device));
    }
    if text.contains('/') {
        let path = text.parse();
        return path
            .map(Concern::Secret)
            .map_err(|error| Failure::usage(format!("`{text}` is no secret: {error}"), "for example global/api_key"));
    }
    text.parse().map(Concern::Profile).map_err(|error| {
        Failure::usage(
            format!("`{text}` is no secret, device or profile: {error}"),
            "name a secret (SCOPE/NAME), a device's id or a profile's id",
        )
    })
}

/// What the store that a thing came from said of it; it stands in the event that brought it along.
fn origin(event: &Event, concern: &Concern) -> Vec<String> {
    let times = |origin: &OriginTimes| {
        format!("made there {}, changed there {}", time::second(origin.created), time::second(origin.updated))
    };
    match (event, concern) {
        (Event::SecretsImported(event), Concern::Secret(path)) => {
            let wanted = event.secrets.iter().filter(|one| one.put.scope == path.scope && one.put.name == path.name);
            wanted
                .filter_map(|one| Some(format!("version {}: {}", one.put.version, times(one.origin.as_ref()?))))
                .collect()
        }
        (Event::CredentialsImported(event), Concern::Profile(id)) => {
            event.profiles.iter().filter(|one| one.profile.id == *id).map(|one| times(&one.origin)).collect()
        }
        (Event::DevicesImported(event), Concern::Device(id)) => {
            let wanted = event.devices.iter().filter(|one| one.device == *id);
            wanted
                .flat_map(|one| {
                    let issued =
                        one.issued.map(|at| format!("its newest certificate was issued there {}", time::second(at)));
                    let revoked = one.revoked.as_ref();
                    let revoked =
                        revoked.map(|gone| format!("revoked there {}: {}", time::second(gone.time), gone.reason));
                    issued.into_iter().chain(revoked)
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Runs `log why`.
pub fn run(invocation: &Invocation, args: &WhyArgs) -> Result<(), Failure> {
    let concern = concern(&args.thing)?;
    let ledger = invocation.open(Access::Read)?;
    let told = progress::bar(invocation, "reading", |tell| ledger.log().story(&concern, Some(tell)))?;
    invocation.close(&ledger);
    if told.is_empty() {
        return Err(Failure::new(
            ExitCode::NotFound,
            format!("the log knows no {concern}"),
            "`palyra-ledger log query --text` finds names",
        ));
    }
    let out = &invocation.out;
    header(out)?;
    for chapter in &told {
        if !out.is_json() {
            if chapter.relation != Relation::Itself {
                let how = match chapter.relation {
                    Relation::Profile => "through a profile:",
                    Relation::Secret => "a secret of it:",
                    Relation::Device | Relation::Itself => "a device that read it:",
                };
                out.painted(&[(Style::Dim, &format!("        {how}"))])?;
            }
            print_entry(out, &chapter.entry)?;
            for told in origin(&chapter.entry.event, &concern) {
                out.painted(&[(Style::Dim, &format!("        {told}"))])?;
            }
            continue;
        }
        let mut shown = story::entry_json(&chapter.entry);
        if let Some(map) = shown.as_object_mut() {
            map.insert("relation".to_owned(), json!(chapter.relation));
            map.insert("about".to_owned(), Value::String(concern.to_string()));
        }
        out.json(&shown)?;
    }
    Ok(())
}
