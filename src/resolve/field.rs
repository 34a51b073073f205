//! One member of a JSON document. What the document holds beside it is passed over and never copied.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::base::{Field, SecretBytes};
use crate::event::vault::ResolveReason;

/// Takes a field out of a value: text as it is, a number or truth value as its JSON text.
pub fn extract(value: &SecretBytes, field: &Field) -> Result<SecretBytes, ResolveReason> {
    let text = std::str::from_utf8(value.expose()).map_err(|_| ResolveReason::NotJson)?;
    let document: &RawValue = serde_json::from_str(text).map_err(|_| ResolveReason::NotJson)?;
    let mut found = document.get();
    match field.as_str().strip_prefix('/') {
        None if !found.starts_with('{') => return Err(ResolveReason::NotJson),
        None => found = step(found, field.as_str())?,
        Some(pointer) => {
            for token in pointer.split('/') {
                // RFC 6901, section 4: `~1` first, so that `~01` is `~1`.
                found = step(found, &token.replace("~1", "/").replace("~0", "~"))?;
            }
        }
    }
    scalar(found)
}

fn scalar(raw: &str) -> Result<SecretBytes, ResolveReason> {
    match raw.as_bytes().first() {
        Some(b'"') => {
            // Text without escapes is borrowed from the value; one with escapes passes through the parser's buffer.
            let text: Text = serde_json::from_str(raw).map_err(|_| ResolveReason::NotJson)?;
            Ok(SecretBytes::from(text.0.as_bytes()))
        }
        Some(b'{' | b'[' | b'n') | None => Err(ResolveReason::FieldKind),
        Some(_) => Ok(SecretBytes::from(raw.as_bytes())),
    }
}

/// The member of an object or the element of an array.
fn step<'a>(raw: &'a str, key: &str) -> Result<&'a str, ResolveReason> {
    let mut reader = serde_json::Deserializer::from_str(raw);
    let found = match raw.as_bytes().first() {
        Some(b'{') => Member(key).deserialize(&mut reader),
        Some(b'[') => {
            // RFC 6901, section 4: digits without a leading zero.
            let index = key.parse::<usize>().ok().filter(|index| index.to_string() == key);
            Element(index.ok_or(ResolveReason::NoField)?).deserialize(&mut reader)
        }
        _ => return Err(ResolveReason::NoField),
    };
    found.map_err(|_| ResolveReason::NotJson)?.map(RawValue::get).ok_or(ResolveReason::NoField)
}

struct Member<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Text>()? {
            if *key.0 != *self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value::<&'de RawValue>()?).is_some() {
                // Which of two members of one name counts is not for us to guess.
                return Err(serde::de::Error::custom("a member stands there twice"));
            }
        }
        Ok(found)
    }
}

struct Element(usize);

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Element {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.0 {
            if elements.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = elements.next_element::<&'de RawValue>()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// Text of the document, in memory that is wiped.
struct Text(Zeroizing<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Copied;

        impl Visitor<'_> for Copied {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Zeroizing::new(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Copied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(document: &str, field: &str) -> Result<String, ResolveReason> {
        let found = extract(&SecretBytes::from(document.as_bytes()), &field.parse().unwrap())?;
        Ok(String::from_utf8(found.expose().to_vec()).unwrap())
    }

    #[test]
    fn a_field_is_a_member_or_what_a_pointer_leads_to() {
        let document = r#" {"token": "a\n\u00e9\"b", "n": 1.50e3, "yes": true, "deep": [{"a/b": "x"}, {"m~n": 7}], "": 1, "/top": "t"} "#;
        assert_eq!(of(document, "token").unwrap(), "a\n\u{e9}\"b");
        assert_eq!(of(document, "n").unwrap(), "1.50e3");
        assert_eq!(of(document, "yes").unwrap(), "true");
        assert_eq!(of(document, "/deep/0/a~1b").unwrap(), "x");
        assert_eq!(of(document, "/deep/1/m~0n").unwrap(), "7");
        assert_eq!(of(document, "/").unwrap(), "1");
        assert_eq!(of(document, "/~1top").unwrap(), "t");
        assert_eq!(of("[\"a\"]", "/0").unwrap(), "a");
    }

    #[test]
    fn what_is_no_scalar_or_not_there_is_refused() {
        use ResolveReason::{FieldKind, NoField, NotJson};
        for (document, field, reason) in [
            ("", "a", NotJson),
            ("sk-live", "a", NotJson),
            ("[1]", "a", NotJson),
            ("\"a\"", "a", NotJson),
            ("{\"a\": 1} x", "a", NotJson),
            ("{\"a\": 1, \"a\": 2}", "a", NotJson),
            ("{\"a\": \"\\ud800\"}", "a", NotJson),
            ("{\"b\": 1}", "a", NoField),
            ("{\"a\": null}", "a", FieldKind),
            ("{\"a\": {}}", "a", FieldKind),
            ("{\"a\": []}", "/a", FieldKind),
            ("{\"a\": [1]}", "/a/1", NoField),
            ("{\"a\": [1]}", "/a/00", NoField),
            ("{\"a\": [1]}", "/a/-", NoField),
            ("{\"a\": 1}", "/a/b", NoField),
        ] {
            assert_eq!(of(document, field), Err(reason), "{document} {field}");
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(of(&deep, "/1"), Err(NoField));
    }
}
