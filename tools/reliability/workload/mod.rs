//! A mixed workload, what must be there after it, and what is there: shared by the parts that interrupt it.
//!
//! Operations belong to lanes that touch nothing of each other, so several lanes may run beside each other and the
//! state of each is known exactly: that after its acknowledged operations, or that after the one more which was
//! under way when it was interrupted. Nothing between the two is allowed.

mod act;
mod dice;
mod disk;
mod find;
mod world;

use serde::{Deserialize, Serialize};

pub use act::{act, device_id, nonce, profile_id, scope, secret_name, settings, tokens, value};
pub use dice::Dice;
pub use disk::Disk;
pub use find::{find, verify};
pub use world::World;

/// What is done beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// Secrets of one scope.
    Vault(u8),
    /// Pairing, devices, certificates, the CA.
    Devices,
    /// Profiles, tokens, refreshes.
    Credentials,
    /// Rotations, slots, checkpoints, backups.
    Keys,
}

/// Every lane.
pub const LANES: [Lane; 6] =
    [Lane::Vault(0), Lane::Vault(1), Lane::Vault(2), Lane::Devices, Lane::Credentials, Lane::Keys];

/// One operation of a lane. A `nonce` decides the content that is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Writes a new version; where asked, only over the last one.
    Put { name: u8, nonce: u64, expect: bool },
    /// Hides a version or all.
    Delete { name: u8, version: Option<u32> },
    /// Shows a version or all again.
    Undelete { name: u8, version: Option<u32> },
    /// Destroys a version or all.
    Shred { name: u8, version: Option<u32> },
    /// Describes a secret.
    Describe { name: u8, nonce: u64 },
    /// Pairs a device, from its code to its certificate.
    Pair { device: u64 },
    /// Revokes a device.
    Revoke { device: u64 },
    /// Lets a revoked device ask to be paired again.
    Clear { device: u64 },
    /// Gives a device another name.
    Rename { device: u64, nonce: u64 },
    /// Gives a device one more scope, or takes it back.
    Grant { device: u64, granted: bool },
    /// Issues a device's next certificate.
    Renew { device: u64 },
    /// First step of a CA roll.
    PrepareCa,
    /// Second step.
    ActivateCa,
    /// Third step.
    TaintCa,
    /// Last step.
    RevokeCa,
    /// Signs a revocation list.
    RevocationList,
    /// Logs a profile in: profile and both tokens in one batch.
    Login { profile: u8, nonce: u64 },
    /// Logs a profile out: its tokens are shredded.
    Logout { profile: u8 },
    /// Makes a profile with an API key.
    SetKey { profile: u8 },
    /// Enables or disables a profile.
    Enable { profile: u8, enabled: bool },
    /// Deletes a profile.
    Remove { profile: u8 },
    /// Begins a refresh.
    Begin { profile: u8 },
    /// Begins a refresh whose predecessor's lease is over and whose outcome nobody recorded.
    BeginAgain { profile: u8 },
    /// Completes it: both tokens and the profile in one batch.
    Renewed { profile: u8, nonce: u64 },
    /// Completes it without tokens.
    NotRenewed { profile: u8 },
    /// Reports use, and records it.
    Report { profile: u8, served: bool },
    /// Begins a new epoch of the log's keys.
    Epoch,
    /// Rotates the root key.
    Root,
    /// A rotation of the root key that was interrupted before its new epoch; never asked for.
    RootAlone,
    /// Adds a key slot.
    AddSlot,
    /// Removes the added one.
    RemoveSlot,
    /// Signs a checkpoint.
    Checkpoint,
    /// Writes a backup and syncs it.
    Backup { number: u64 },
}

/// Names of secrets in each scope.
const NAMES: u8 = 5;
/// OAuth profiles; as many with API keys follow.
const PROFILES: u8 = 3;
/// Versions at which a secret gets no more.
const VERSIONS_MAX: usize = 40;
/// Devices at which no more are paired.
const DEVICES_MAX: usize = 24;

/// The next operation of a lane: one that the model allows.
pub fn choose(world: &World, lane: Lane, dice: &mut Dice) -> Op {
    for _ in 0..64 {
        let op = propose(world, lane, dice);
        if world.clone_part(lane).apply(&op).is_ok() {
            return op;
        }
    }
    match lane {
        Lane::Vault(_) => Op::Put { name: dice.small(NAMES), nonce: dice.number(), expect: false },
        Lane::Devices => Op::RevocationList,
        Lane::Credentials => Op::Login { profile: dice.small(PROFILES), nonce: dice.number() },
        Lane::Keys => Op::Checkpoint,
    }
}

fn propose(world: &World, lane: Lane, dice: &mut Dice) -> Op {
    match lane {
        Lane::Vault(_) => secret(world, lane, dice),
        Lane::Devices => device(world, dice),
        Lane::Credentials => credential(dice),
        Lane::Keys => match dice.below(12) {
            0..4 => Op::Epoch,
            4..7 => Op::Root,
            7 => Op::AddSlot,
            8 => Op::RemoveSlot,
            9 => Op::Checkpoint,
            _ => Op::Backup { number: dice.number() },
        },
    }
}

fn secret(world: &World, lane: Lane, dice: &mut Dice) -> Op {
    let name = dice.small(NAMES);
    let (nonce, held) = (dice.number(), world.versions(lane, name));
    let version = dice.once_in(2).then(|| u32::try_from(dice.below(held as u64 + 1)).unwrap_or(0));
    match dice.below(16) {
        0..9 if held < VERSIONS_MAX => Op::Put { name, nonce, expect: dice.once_in(4) },
        9 | 10 => Op::Delete { name, version },
        11 => Op::Undelete { name, version },
        12..15 => Op::Shred { name, version },
        _ => Op::Describe { name, nonce },
    }
}

fn device(world: &World, dice: &mut Dice) -> Op {
    let known: Vec<u64> = world.devices().collect();
    let device = dice.pick(&known).copied().unwrap_or(0);
    match dice.below(20) {
        0..5 if known.len() < DEVICES_MAX => Op::Pair { device: dice.number() },
        5..7 => Op::Revoke { device },
        7 | 8 => Op::Rename { device, nonce: dice.number() },
        9 | 10 => Op::Grant { device, granted: dice.once_in(2) },
        11..14 => Op::Renew { device },
        14 => Op::PrepareCa,
        15 | 16 => Op::ActivateCa,
        17 => Op::TaintCa,
        18 if dice.once_in(2) => Op::Clear { device },
        18 => Op::RevokeCa,
        _ => Op::RevocationList,
    }
}

fn credential(dice: &mut Dice) -> Op {
    let (profile, nonce) = (dice.small(PROFILES), dice.number());
    let any = dice.small(2 * PROFILES);
    match dice.below(20) {
        0..2 => Op::Login { profile, nonce },
        2 => Op::Logout { profile },
        3 => Op::SetKey { profile: PROFILES + profile },
        4 => Op::Enable { profile: any, enabled: dice.once_in(2) },
        5 => Op::Remove { profile: any },
        6..11 => Op::Begin { profile },
        11..17 => Op::Renewed { profile, nonce },
        17 => Op::NotRenewed { profile },
        _ => Op::Report { profile: any, served: dice.once_in(2) },
    }
}
