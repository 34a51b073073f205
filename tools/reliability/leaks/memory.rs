//! What a process of ours holds in its memory, and who else may look.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use super::canary::Search;
use crate::Fault;

/// Bytes that are read at once; pieces reach over the seams.
const CHUNK: usize = 8 * 1024 * 1024;
/// Bytes of a chunk that are read again with the next one.
const SEAM: usize = 512;

/// What stands in a process's memory.
#[derive(Debug, Default)]
pub struct Remains {
    /// Mappings that were read.
    pub mappings: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// How often each canary was found.
    pub found: Vec<u64>,
    /// Where, in words, of the first few.
    pub places: Vec<String>,
}

/// Reads every mapping of a process that can be read.
///
/// # Errors
/// Where this user may not.
pub fn search(pid: u32, search: &Search) -> Result<Remains, Fault> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut remains = Remains { found: vec![0; search.canaries().len()], ..Remains::default() };
    let mut buffer = vec![0; CHUNK];
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else { continue };
        let name = fields.nth(3).unwrap_or("without a name");
        let Some((from, to)) = range.split_once('-') else { continue };
        let (Ok(from), Ok(to)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)) else { continue };
        // The kernel's own pages are at no file's offset that can be read.
        if !rights.starts_with('r') || name == "[vvar]" || name == "[vsyscall]" {
            continue;
        }
        remains.mappings += 1;
        let mut at = from;
        while at < to {
            let wanted = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
            let Some(chunk) = buffer.get_mut(..wanted) else { break };
            let Ok(read) = memory.read_at(chunk, at) else { break };
            if read == 0 {
                break;
            }
            remains.look(search, chunk.get(..read).unwrap_or_default(), (name, at));
            let seam = if at + read as u64 >= to { 0 } else { SEAM.min(read - 1) };
            remains.bytes += (read - seam) as u64;
            at += (read - seam) as u64;
        }
    }
    if remains.bytes == 0 {
        return Err("nothing of its memory could be read".into());
    }
    Ok(remains)
}

impl Remains {
    fn look(&mut self, search: &Search, bytes: &[u8], (name, base): (&str, u64)) {
        for hit in search.look(bytes) {
            if let Some(count) = self.found.get_mut(hit.canary) {
                *count += 1;
            }
            if self.places.len() < 40 {
                let around = bytes.get(hit.at.saturating_sub(48)..(hit.at + 16).min(bytes.len())).unwrap_or_default();
                let around: String = around.iter().map(|byte| printable(*byte)).collect();
                let what = search.canaries().get(hit.canary).map_or("", |canary| canary.what.as_str());
                let at = base + hit.at as u64;
                self.places.push(format!("{what} ({}) in {name} at {at:x}: {around}", hit.form));
            }
        }
    }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' }
}

/// Whether a value that a process was given as its input, and kept, is found in its memory.
pub fn control(looked_for: &Search, value: &[u8]) -> Result<bool, Fault> {
    let mut shell = Command::new("sh");
    shell.args(["-c", "read -r kept; echo there; read -r end"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = shell.spawn()?;
    let mut input = child.stdin.take().ok_or("no pipe")?;
    input.write_all(&[value, b"\n"].concat())?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
    let remains = search(child.id(), looked_for);
    drop(input);
    child.wait()?;
    Ok(remains?.found.iter().any(|count| *count > 0))
}
