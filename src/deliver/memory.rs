//! A value on a descriptor: a file in memory that nobody can change any more, or a pipe.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, memfd_create};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::base::SecretBytes;

/// How a descriptor holds its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A sealed file in memory: it can be read as often as one likes, and by its `/dev/fd` name.
    Sealed,
    /// A pipe, where the kernel has no such files: it can be read once.
    Piped,
}

/// A descriptor to read the value from. It is closed when a program is started, until somebody lets it through.
///
/// # Errors
/// What the system says; a value that does not fit into a pipe has `EFBIG` where the kernel has nothing better.
pub fn in_memory(value: &SecretBytes) -> std::io::Result<(OwnedFd, Held)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Nothing in it is to be run; kernels before 6.3 do not know the flag.
    let made = match memfd_create("secret", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create("secret", flags),
        made => made,
    };
    match made {
        Ok(memory) => sealed(memory, value).map(|memory| (memory, Held::Sealed)),
        Err(Errno::NOSYS | Errno::PERM) => piped(value).map(|pipe| (pipe, Held::Piped)),
        Err(error) => Err(error.into()),
    }
}

fn sealed(memory: OwnedFd, value: &SecretBytes) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memory);
    file.write_all(value.expose())?;
    file.rewind()?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

fn piped(value: &SecretBytes) -> std::io::Result<OwnedFd> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    make_room(&write, value.len());
    let mut file = File::from(write);
    match file.write_all(value.expose()) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Err(Errno::FBIG.into()),
        written => written?,
    }
    rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::empty())?;
    Ok(read)
}

/// Lets a pipe hold so many bytes, where the kernel allows it.
pub(super) fn make_room(pipe: impl AsFd, bytes: usize) {
    // Best effort: whoever writes finds out what fits.
    if bytes > 64 * 1024 {
        let _ = fcntl_setpipe_size(pipe, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn nobody_changes_what_is_in_memory() {
        let value = SecretBytes::new(vec![7; 200_000]);
        let (memory, held) = in_memory(&value).unwrap();
        assert_eq!(held, Held::Sealed);
        let mut file = File::from(memory);
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(1_000_000).is_err());
        assert!(rustix::fs::fcntl_add_seals(&file, SealFlags::empty()).is_err(), "not even its seals");
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(SecretBytes::new(read), value);
    }

    #[test]
    fn a_pipe_holds_it_where_there_is_nothing_better() {
        let value = SecretBytes::new(vec![7; 300_000]);
        let mut read = Vec::new();
        File::from(piped(&value).unwrap()).read_to_end(&mut read).unwrap();
        assert_eq!(SecretBytes::new(read), value);
        let large = SecretBytes::new(vec![7; 80 * 1024 * 1024]);
        assert_eq!(piped(&large).unwrap_err().raw_os_error(), Some(Errno::FBIG.raw_os_error()));
    }
}
