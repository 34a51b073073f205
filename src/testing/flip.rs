//! Damage to single bytes.

use std::path::Path;

use crate::store::{Medium, OpenMode, RealMedium, StoreError};

/// Flips the bits of `mask` in one byte of a file and syncs it; false where the file has no such
/// byte.
///
/// # Errors
/// [`StoreError`] where the file cannot be opened, read, written or synced.
pub fn flip_byte(medium: &dyn Medium, path: &Path, offset: u64, mask: u8) -> Result<bool, StoreError> {
    let file = medium.open(path, OpenMode::ReadWrite)?;
    let mut byte = [0_u8; 1];
    if file.read_at(offset, &mut byte)? == 0 {
        return Ok(false);
    }
    let [value] = byte;
    file.write_at(offset, &[value ^ mask])?;
    file.sync()?;
    Ok(true)
}

/// [`flip_byte`] on the operating system's file system.
///
/// # Errors
/// As [`flip_byte`].
pub fn flip_byte_at_path(path: &Path, offset: u64, mask: u8) -> Result<bool, StoreError> {
    flip_byte(&RealMedium, path, offset, mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SimDisk;

    #[test]
    fn a_flipped_byte_changes_alone_and_nothing_is_made_behind_the_end() {
        let disk = SimDisk::new();
        let path = Path::new("/f");
        disk.put(path, b"abc").unwrap();
        assert!(flip_byte(&disk, path, 1, 0x01).unwrap());
        assert_eq!(disk.contents(path).unwrap(), b"acc");
        assert!(!flip_byte(&disk, path, 3, 0x01).unwrap());
        assert!(disk.flip(path, 0, 0x80));
        assert!(!disk.flip(path, 3, 0x80));
        assert_eq!(disk.crash_strict().contents(path).unwrap(), [b'a' ^ 0x80, b'c', b'c']);
    }
}
