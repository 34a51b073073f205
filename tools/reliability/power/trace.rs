//! Reads what `strace` wrote: calls with their arguments, and the order in which they were entered and left.
//!
//! The recorder asks for every string in hexadecimal (`-xx`) and for the paths of descriptors (`-y`), so that no data
//! can look like syntax. A line that is not understood ends the reading: a call that was passed over would be a
//! promise that nobody checked.

use std::collections::HashMap;

use crate::Fault;

/// One system call that was left again.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its name, for example `pwrite64`.
    pub name: String,
    /// Its arguments as `strace` shows them.
    pub args: Vec<String>,
    /// What it gave; negative where it failed.
    pub result: i64,
    /// The line in which it was entered, from 1.
    pub line: usize,
}

/// Entering or leaving a call, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It was entered: from here on it may have happened.
    Enter(usize),
    /// It was left: from here on a sync that is entered covers it.
    Leave(usize),
}

/// A recording.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Calls, by the order in which they were entered.
    pub calls: Vec<Call>,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

impl Trace {
    /// Reads the text of a recording.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut trace = Self::default();
        let mut open: HashMap<&str, (usize, String)> = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let failed = |what: &str| -> Fault {
                format!("line {} of the recording: {what}: {}", at + 1, line.get(..200).unwrap_or(line)).into()
            };
            let (thread, rest) = line.split_once(' ').ok_or_else(|| failed("it names no thread"))?;
            let rest = rest.trim_start();
            if rest.starts_with("+++") || rest.starts_with("---") {
                continue;
            }
            let (number, whole) = if let Some(resumed) = rest.strip_prefix("<... ") {
                let (_, tail) = resumed.split_once(" resumed>").ok_or_else(|| failed("it resumes nothing"))?;
                let (number, begun) = open.remove(thread).ok_or_else(|| failed("no call of this thread is open"))?;
                (number, begun + tail)
            } else {
                let number = trace.calls.len();
                let name = rest.split('(').next().unwrap_or_default().to_owned();
                trace.calls.push(Call { name, args: Vec::new(), result: 0, line: at + 1 });
                trace.steps.push(Step::Enter(number));
                if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
                    open.insert(thread, (number, begun.to_owned()));
                    continue;
                }
                (number, rest.to_owned())
            };
            let (args, result) = arguments(&whole).ok_or_else(|| failed("it is no call"))?;
            let call = trace.calls.get_mut(number).ok_or_else(|| failed("it is no call"))?;
            (call.args, call.result) = (args, result);
            trace.steps.push(Step::Leave(number));
        }
        // A call that was never left: what it did, nobody saw.
        match open.into_values().find(|(_, text)| !text.starts_with("exit")) {
            Some((_, text)) => Err(format!("a call was never left: {}", text.get(..120).unwrap_or(&text)).into()),
            None => Ok(trace),
        }
    }
}

/// Splits `name(a, b) = result` at its commas, those in brackets and quotes aside.
fn arguments(text: &str) -> Option<(Vec<String>, i64)> {
    let inside = text.get(text.find('(')? + 1..)?;
    let (mut depth, mut quoted, mut from) = (0_u32, false, 0);
    let mut args = Vec::new();
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' | b'[' | b'{' | b'<' => depth += 1,
            b')' if depth == 0 => {
                args.push(inside.get(from..at)?.trim().to_owned());
                let (_, result) = inside.get(at + 1..)?.split_once("= ")?;
                return Some((args, first_number(result)));
            }
            // Bits are shown as `1<<2`, and flags as `a=>b` nowhere.
            b')' | b']' | b'}' | b'>' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                args.push(inside.get(from..at)?.trim().to_owned());
                from = at + 1;
            }
            _ => {}
        }
    }
    None
}

/// The number at the beginning, decimal or hexadecimal; 0 where there is none.
fn first_number(text: &str) -> i64 {
    if let Some(hex) = text.strip_prefix("0x") {
        let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        return u64::from_str_radix(hex.get(..end).unwrap_or_default(), 16).map_or(0, u64::cast_signed);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    text.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

impl Call {
    /// An argument; empty where there are fewer.
    pub fn arg(&self, at: usize) -> &str {
        self.args.get(at).map_or("", String::as_str)
    }

    /// An argument as a number.
    pub fn number(&self, at: usize) -> i64 {
        first_number(self.arg(at))
    }

    /// An argument as an offset or a length.
    pub fn size(&self, at: usize) -> u64 {
        u64::try_from(self.number(at)).unwrap_or(0)
    }

    /// An argument as a file mode, which is octal.
    pub fn mode(&self, at: usize) -> u32 {
        u32::from_str_radix(self.arg(at), 8).unwrap_or(0o600)
    }

    /// The path of the descriptor in an argument, where it has one.
    pub fn fd_path(&self, at: usize) -> Option<Vec<u8>> {
        let arg = self.arg(at);
        let (from, to) = (arg.find('<')?, arg.find('>')?);
        let path = unescape(arg.get(from + 1..to)?);
        path.starts_with(b"/").then_some(path)
    }

    /// All strings in an argument, behind each other.
    pub fn bytes(&self, at: usize) -> Vec<u8> {
        self.arg(at).split('"').skip(1).step_by(2).flat_map(unescape).collect()
    }

    /// Whether a word stands among the flags of an argument.
    pub fn has(&self, at: usize, flag: &str) -> bool {
        self.arg(at).split('|').any(|word| word == flag)
    }

    /// The absolute path that a folder's descriptor and a name make.
    pub fn path(&self, folder: Option<usize>, name: usize) -> Vec<u8> {
        let name = self.bytes(name);
        if name.starts_with(b"/") {
            return tidy(&name);
        }
        let mut path = folder.and_then(|at| self.fd_path(at)).unwrap_or_default();
        path.push(b'/');
        path.extend(name);
        tidy(&path)
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'\\'
            && let Some((&[b'x', high, low], behind)) = tail.split_first_chunk::<3>()
            && let (Some(high), Some(low)) = (char::from(high).to_digit(16), char::from(low).to_digit(16))
        {
            out.push(u8::try_from(high * 16 + low).unwrap_or(0));
            rest = behind;
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

/// Without `.`, `..` and doubled slashes.
fn tidy(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    for part in parts {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    out
}
