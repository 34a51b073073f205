//! Fuzz targets for what programs are given: templates and env files.

use std::fmt::Write;

use crate::base::SecretBytes;
use crate::deliver::{EnvValue, Template, escape, parse_env_file};

/// Templates: whatever the text, escaping it gives a template that renders to it; what parses renders to its
/// text with the values in place; what does not names a place within it.
///
/// # Panics
/// Where the property does not hold.
pub fn template(bytes: &[u8]) {
    let escaped = escape(bytes);
    let plain = Template::parse(&escaped).map(|template| template.render(&[]).map(|text| text.to_vec()));
    assert_eq!(plain, Ok(Ok(bytes.to_vec())), "escaped text is itself");
    match Template::parse(bytes) {
        Ok(template) => {
            let count = template.references().len();
            let marked: Vec<_> = (0..count).map(|_| Some(SecretBytes::from(b"\xff<mark>\xff".as_slice()))).collect();
            let length = |values: &[Option<SecretBytes>]| template.render(values).map_or(usize::MAX, |text| text.len());
            let (rendered, empty) = (length(&marked), length(&vec![None; count]));
            assert!(count == 0 || rendered > empty, "each reference has a place");
            assert!(empty <= bytes.len(), "no text comes from nowhere");
            for reference in template.references() {
                let again = format!("{{{{{reference}}}}}");
                let again = Template::parse(again.as_bytes()).map(|again| again.references().to_vec());
                assert_eq!(again, Ok(vec![reference.clone()]), "a reference's own text is one in a template");
            }
        }
        Err(error) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&error.line) && error.column >= 1, "{error}");
        }
    }
}

/// Env files: what parses says each name once and nothing twice, and reads the same when it is written anew in
/// single or double quotes; what does not names a line.
///
/// # Panics
/// Where the property does not hold.
pub fn env_file(bytes: &[u8]) {
    match parse_env_file(bytes) {
        Ok(entries) => {
            let mut written = String::new();
            for entry in &entries {
                let text = match &entry.value {
                    EnvValue::Reference(reference) => reference.to_string(),
                    // Single quotes alone keep what looks like a reference from being one.
                    EnvValue::Plain(text) if !text.contains('\'') => format!("'{}'", text.as_str()),
                    EnvValue::Plain(text) if text.starts_with("palyra://") => return,
                    EnvValue::Plain(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
                };
                let _ = writeln!(written, "export {}={text} # again", entry.name);
            }
            let shown = |value: &EnvValue| match value {
                EnvValue::Reference(reference) => (true, reference.to_string()),
                EnvValue::Plain(text) => (false, text.to_string()),
            };
            let again = parse_env_file(written.as_bytes());
            let flat = |entries: &[crate::deliver::EnvEntry]| -> Vec<_> {
                entries.iter().map(|entry| (entry.name.clone(), shown(&entry.value))).collect()
            };
            assert_eq!(again.as_deref().map(flat), Ok(flat(&entries)), "written anew it is the same");
        }
        Err(error) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=lines.max(1)).contains(&error.line), "{error}");
        }
    }
}
