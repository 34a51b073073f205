//! Who may own what a reference leads to, and what others may do to it: the rules that files and programs share.

use rustix::fs::{FileType, Stat};

/// The kind of an object.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether an object belongs to this user or to root: nobody else may decide what a secret is.
pub fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw()
}

/// Whether only its owner may write to an object.
pub const fn is_written_by_owner(stat: &Stat) -> bool {
    stat.st_mode & 0o022 == 0
}

/// Whether nobody else may replace what is in a folder. In a sticky one others may make files, and cannot replace
/// those of anybody else.
pub const fn keeps_names(stat: &Stat) -> bool {
    is_written_by_owner(stat) || stat.st_mode & 0o1000 != 0
}

/// Whether others can neither write nor read a file that holds a secret. As ssh holds it with keys: of one's own
/// file others may do nothing at all; root's file may be readable for a group that root chose.
pub fn is_private(stat: &Stat) -> bool {
    let own = stat.st_uid == rustix::process::geteuid().as_raw();
    stat.st_mode & (if own { 0o077 } else { 0o027 }) == 0
}

/// Mode and owner, as people write them.
pub fn described(stat: &Stat) -> String {
    let kind = match kind(stat) {
        FileType::RegularFile => "regular file",
        FileType::Directory => "folder",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        _ => "device",
    };
    format!("{kind}, mode {:04o}, owner {}", stat.st_mode & 0o7777, stat.st_uid)
}
