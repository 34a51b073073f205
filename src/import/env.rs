//! An env file: every variable a secret.

use crate::base::{Scope, SecretBytes, SecretPath};
use crate::crypto::{Hasher, labels};
use crate::deliver::{EnvFileError, EnvValue, read_env_file};
use crate::event::import::SourceForm;

use super::items::{FoundSecret, Gathered, Line, Verdict};

/// Reads an env file; names become names of secrets in the scope.
#[must_use]
pub fn read_env(bytes: &[u8], scope: &Scope, origin: &str) -> Gathered {
    let mut gathered = Gathered::new(SourceForm::Env, origin);
    let damaged =
        |error: EnvFileError| Line::new(format!("line {}", error.line), Verdict::Damaged, error.reason.to_string());
    let entries = match read_env_file(bytes) {
        Ok((entries, wrong)) => {
            gathered.lines.extend(wrong.into_iter().map(damaged));
            entries
        }
        Err(error) => {
            gathered.lines.push(damaged(error));
            gathered.unreadable = true;
            return gathered;
        }
    };
    for entry in entries {
        let item = format!("line {} ({})", entry.line, entry.name.as_str());
        let EnvValue::Plain(text) = entry.value else {
            gathered.lines.push(Line::new(item, Verdict::Skipped, "it is a reference to a secret and no secret"));
            continue;
        };
        match entry.name.as_str().parse() {
            Ok(name) => {
                let path = SecretPath { scope: scope.clone(), name };
                gathered.secrets.push(FoundSecret::bare(path, SecretBytes::from(text.as_bytes())));
            }
            Err(error) => {
                let error: crate::base::RefError = error;
                gathered.lines.push(Line::new(item, Verdict::Unfit, error.to_string()));
            }
        }
    }
    gathered.digest = names_digest(&gathered);
    gathered
}

/// A digest over names and lengths: values in the clear are left out of it.
pub fn names_digest(gathered: &Gathered) -> crate::crypto::Hash {
    let mut hasher = Hasher::new(labels::IMPORT_SOURCE);
    hasher.update(gathered.form.name().as_bytes());
    for secret in &gathered.secrets {
        let path = secret.path.to_string();
        for part in [path.as_bytes(), &(secret.value.len() as u64).to_le_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finish()
}
