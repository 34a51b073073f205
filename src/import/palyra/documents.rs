//! The documents in JSON: identity state, the CA, the vault's list, its objects.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::base::limits;

/// A certificate as the identity state has it.
#[derive(Debug, Clone, Deserialize)]
pub struct IssuedDoc {
    pub certificate_pem: String,
    pub issued_at_unix_ms: Option<u64>,
}

/// A paired device.
#[derive(Debug, Clone, Deserialize)]
pub struct PairedDoc {
    pub device_id: String,
    pub client_kind: String,
    pub current_certificate: IssuedDoc,
    #[serde(default)]
    pub certificate_fingerprints: Vec<String>,
}

/// A revoked device.
#[derive(Debug, Clone, Deserialize)]
pub struct RevokedDoc {
    pub device_id: String,
    pub reason: String,
    pub revoked_at_unix_ms: u64,
}

/// The CA.
#[derive(Deserialize)]
pub struct CaDoc {
    pub certificate_pem: String,
    pub private_key_pem: Zeroizing<String>,
}

impl fmt::Debug for CaDoc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaDoc(..)")
    }
}

/// The identity state; older ones hold the CA as well. The program that wrote it takes none without all three lists:
/// one that lacks a list would bring devices along and lose that they are revoked.
#[derive(Debug, Default, Deserialize)]
pub struct StateDoc {
    pub ca: Option<CaDoc>,
    pub paired_devices: BTreeMap<String, PairedDoc>,
    pub revoked_devices: BTreeMap<String, RevokedDoc>,
    pub revoked_certificate_fingerprints: Vec<String>,
}

/// A scope, as the vault's list has it.
#[derive(Debug, Clone, Deserialize)]
pub struct ScopeDoc {
    pub kind: String,
    pub principal_id: Option<String>,
    pub channel_name: Option<String>,
    pub account_id: Option<String>,
    pub skill_id: Option<String>,
}

impl ScopeDoc {
    /// The scope's text; nothing where it is of no known kind. A channel's name with a colon gives the text of
    /// another channel's account: [`ScopeDoc::is_plain`] tells.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        Some(match self.kind.as_str() {
            "global" => "global".to_owned(),
            "principal" => format!("principal:{}", self.principal_id.as_ref()?),
            "channel" => format!("channel:{}:{}", self.channel_name.as_ref()?, self.account_id.as_ref()?),
            "skill" => format!("skill:{}", self.skill_id.as_ref()?),
            _ => return None,
        })
    }

    /// Whether its text stands for this scope alone.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.kind != "channel" || self.channel_name.as_ref().is_none_or(|name| !name.contains(':'))
    }
}

/// A secret, as the vault's list has it.
#[derive(Debug, Clone, Deserialize)]
pub struct EntryDoc {
    pub scope: ScopeDoc,
    pub key: String,
    pub object_id: String,
    pub created_at_unix_ms: u64,
    pub updated_at_unix_ms: u64,
    pub value_bytes: u64,
}

/// The vault's list.
#[derive(Debug, Clone, Deserialize)]
pub struct MetadataDoc {
    pub version: u32,
    pub entries: Vec<EntryDoc>,
}

/// Envelopes by object id: each a list of its bytes as numbers.
#[derive(Debug, Default)]
pub struct ObjectsDoc(pub BTreeMap<String, Vec<u8>>);

/// One object's bytes.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::with_capacity(1024);
                while let Some(byte) = list.next_element::<u8>()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_seq(Numbers)
    }
}

impl<'de> Deserialize<'de> for ObjectsDoc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Objects;
        impl<'de> Visitor<'de> for Objects {
            type Value = ObjectsDoc;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("objects by their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ObjectsDoc, A::Error> {
                let mut objects = BTreeMap::new();
                while let Some((id, Bytes(bytes))) = map.next_entry::<String, Bytes>()? {
                    if objects.len() >= limits::IMPORT_ITEMS_MAX {
                        return Err(serde::de::Error::custom("too many objects"));
                    }
                    if objects.insert(id, bytes).is_some() {
                        return Err(serde::de::Error::custom("an object twice"));
                    }
                }
                Ok(ObjectsDoc(objects))
            }
        }
        deserializer.deserialize_map(Objects)
    }
}

/// Reads a document; what is wrong is told by its place, never by what stands there.
///
/// # Errors
/// Where it is wrong, in words.
pub fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Eof => "it ends in the middle",
            serde_json::error::Category::Syntax => "it is no JSON",
            serde_json::error::Category::Data | serde_json::error::Category::Io => "it has another shape than it must",
        };
        format!("{what} (line {}, column {})", error.line(), error.column())
    })
}
