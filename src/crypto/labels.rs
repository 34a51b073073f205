//! Every BLAKE3 `derive_key` context of the program, in one file: versioned, never reused.
//!
//! A context is part of the format; changing one is a format change.

/// Hash of one frame: the chain.
pub const FRAME_HASH: &str = "palyra-ledger 2026-11 v1 frame hash";
/// The value that stands before the first frame.
pub const GENESIS: &str = "palyra-ledger 2026-11 v1 genesis";
/// Header of a journal segment.
pub const SEGMENT_HEADER: &str = "palyra-ledger 2026-11 v1 segment header";
/// Digest of a closed segment's frames.
pub const SEGMENT_DIGEST: &str = "palyra-ledger 2026-11 v1 segment digest";
/// AEAD key of an epoch, from the epoch secret.
pub const EPOCH_SEAL: &str = "palyra-ledger 2026-11 v1 epoch seal key";
/// Commitment key of an epoch, from the epoch secret.
pub const EPOCH_COMMIT: &str = "palyra-ledger 2026-11 v1 epoch commitment key";
/// AEAD key of any wrapped small object (keys, index blocks, spool), from its own key.
pub const WRAP_SEAL: &str = "palyra-ledger 2026-11 v1 wrap seal key";
/// Commitment key of any wrapped small object, from its own key.
pub const WRAP_COMMIT: &str = "palyra-ledger 2026-11 v1 wrap commitment key";
/// Check of a key file.
pub const KEY_FILE_CHECK: &str = "palyra-ledger 2026-11 v1 key file check";
/// Digest of a key ring file, named by the event that commits it.
pub const KEYRING_DIGEST: &str = "palyra-ledger 2026-11 v1 key ring digest";
/// Key that wraps epoch keys, from the root key.
pub const ROOT_WRAP: &str = "palyra-ledger 2026-11 v1 root wrapping key";
/// MAC key of the head file, from the ledger key.
pub const HEAD_MAC: &str = "palyra-ledger 2026-11 v1 head mac key";
/// Key of the index, from the ledger key.
pub const INDEX: &str = "palyra-ledger 2026-11 v1 index key";
/// Key of one index run, from the index key and the run's random id.
pub const INDEX_RUN: &str = "palyra-ledger 2026-11 v1 index run key";
/// Key of the hash that places index keys in Bloom filters, from the index key.
pub const INDEX_HASH: &str = "palyra-ledger 2026-11 v1 index hash key";
/// MAC key of the index manifest, from the index key.
pub const INDEX_MANIFEST: &str = "palyra-ledger 2026-11 v1 index manifest mac key";
/// MAC key of the index's snapshots, from the index key.
pub const INDEX_SNAPSHOT: &str = "palyra-ledger 2026-11 v1 index snapshot mac key";
/// Digest of a plan of what a compromise asks for, named by the event that declares it.
pub const COMPROMISE_PLAN: &str = "palyra-ledger 2026-11 v1 compromise plan digest";
/// Key of the read spool, from the ledger key.
pub const SPOOL: &str = "palyra-ledger 2026-11 v1 read spool key";
/// Key of the fingerprints of references to secrets, from the ledger key.
pub const REFERENCE_PRINT: &str = "palyra-ledger 2026-11 v1 reference fingerprint key";
/// Key of the fingerprints that show whether two secret values are equal, from the ledger key.
pub const VALUE_PRINT: &str = "palyra-ledger 2026-11 v1 value fingerprint key";
/// Digest of a secret value, from which its fingerprint is made.
pub const VALUE_DIGEST: &str = "palyra-ledger 2026-11 v1 resolved value digest";
/// KEK, from the CA private key, the ledger id and the KEK salt.
pub const KEK: &str = "palyra-ledger 2026-11 v1 key encryption key";
/// Check of a key table header.
pub const TABLE_HEADER: &str = "palyra-ledger 2026-11 v1 key table header";
/// Check of a key table slot's bytes.
pub const SLOT_CHECK: &str = "palyra-ledger 2026-11 v1 key table slot check";
/// DEK of one secret version, from the slot key, ledger id, scope, name and version.
pub const DEK: &str = "palyra-ledger 2026-11 v1 data encryption key";
/// Digest of an envelope.
pub const ENVELOPE_DIGEST: &str = "palyra-ledger 2026-11 v1 envelope digest";
/// State root over the projections.
pub const STATE_ROOT: &str = "palyra-ledger 2026-11 v1 state root";
/// Digest of bytes set aside as evidence.
pub const EVIDENCE: &str = "palyra-ledger 2026-11 v1 evidence digest";
/// Digest of a device's public key, under which the state finds its holder.
pub const PUBLIC_KEY: &str = "palyra-ledger 2026-11 v1 public key digest";
/// Seed of a pairing's OPAQUE server setup, from the ledger key and the pairing's id.
pub const PAIRING_SETUP: &str = "palyra-ledger 2026-11 v1 pairing server setup";
/// Key of what a joining device seals, from the PAKE's session key.
pub const PAIRING_TO_LEDGER: &str = "palyra-ledger 2026-11 v1 pairing device to ledger";
/// Key of what the ledger seals for a joining device, from the PAKE's session key.
pub const PAIRING_TO_DEVICE: &str = "palyra-ledger 2026-11 v1 pairing ledger to device";
/// Short authentication string, from the PAKE's session key.
pub const PAIRING_SAS: &str = "palyra-ledger 2026-11 v1 pairing short authentication string";
/// Key under which a device learns what became of its request, from the ledger key and the request's id.
pub const PAIRING_POLL: &str = "palyra-ledger 2026-11 v1 pairing request poll key";
/// Digest of a revocation list, named by the event that records it.
pub const REVOCATION_LIST: &str = "palyra-ledger 2026-11 v1 revocation list digest";
/// Serial number of the certificate by which one root vouches for another, from both.
pub const CROSS_CERTIFICATE: &str = "palyra-ledger 2026-11 v1 cross-certificate serial number";
/// Seed of the Ed25519 key that signs checkpoints, from the ledger key.
pub const CHECKPOINT_SIGNING: &str = "palyra-ledger 2026-11 v1 checkpoint signing key";
/// Digest at the end of an evidence bundle.
pub const BUNDLE_DIGEST: &str = "palyra-ledger 2026-11 v1 evidence bundle digest";
/// Digest of a source that was imported, named by the event that records it.
pub const IMPORT_SOURCE: &str = "palyra-ledger 2026-11 v1 import source digest";
/// Key of a recovery slot, from the entropy of its words and the slot's id.
pub const RECOVERY_SLOT: &str = "palyra-ledger 2026-11 v1 recovery slot key";
/// Key that wraps the keys of backups, from the root key.
pub const BACKUP_WRAP: &str = "palyra-ledger 2026-11 v1 backup wrapping key";
/// Key that wraps the keys of backups for whoever opens a later one, from the epoch secret.
pub const BACKUP_CHAIN: &str = "palyra-ledger 2026-11 v1 backup chain key";
/// Check of a backup's header.
pub const BACKUP_HEADER: &str = "palyra-ledger 2026-11 v1 backup header";
/// Digest at the end of a backup.
pub const BACKUP_DIGEST: &str = "palyra-ledger 2026-11 v1 backup digest";
