//! Arguments of `run` and `inject`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::base::{EnvName, SecretRef};
use crate::deliver::FileMode;

/// A name and what it is given: `NAME=REF`.
#[derive(Debug, Clone)]
pub struct Given {
    /// The variable.
    pub name: EnvName,
    /// Where its value is taken from.
    pub reference: SecretRef,
}

/// The reference may be a value in the wrong place: it is not repeated.
fn given(text: &str) -> Result<Given, String> {
    let (name, reference) = text.split_once('=').ok_or("what is given is NAME=REF")?;
    let name = name.parse().map_err(|error| format!("the name: {error}"))?;
    let reference = SecretRef::from_words(reference).map_err(|error| format!("the reference: {error}"))?;
    Ok(Given { name, reference })
}

/// Run a program with secrets in its environment, on descriptors or in files that only look like files
#[derive(Debug, Args)]
#[command(after_help = "References: <scope>/<name>, palyra://<scope>/<name>?version=3&field=token, env://NAME,\n\
                        file:///path, exec:///program?arg=a. Everything is resolved before the program starts.\n\
                        The exit status is the program's own; 126 where it cannot be run, 127 where there is none.")]
pub struct RunArgs {
    /// A variable with a secret in it
    #[arg(long, value_name = "NAME=REF", value_parser = given)]
    pub env: Vec<Given>,
    /// A file of NAME=value lines; values that begin with palyra:// are references. --env comes before it
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Pass nothing of this environment on but PATH, HOME, USER, LOGNAME, SHELL, TERM, COLORTERM, LANG, `LC_*`, TZ, TMPDIR
    #[arg(long)]
    pub pristine: bool,
    /// A descriptor to read a secret from; the variable holds its path, /dev/fd/N
    #[arg(long, value_name = "NAME=REF", value_parser = given)]
    pub fd: Vec<Given>,
    /// A file to read a secret from, which is a pipe in memory; the variable holds its path
    #[arg(long, value_name = "NAME=REF", value_parser = given)]
    pub mount: Vec<Given>,
    /// How often each mounted file can be read; by default as long as the program runs
    #[arg(long, value_name = "N", requires = "mount", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_reads: Option<u32>,
    /// A secret to be the program's standard input
    #[arg(long, value_name = "REF", value_parser = SecretRef::from_words)]
    pub stdin: Option<SecretRef>,
    /// Replace the secrets in what the program prints by [masked:NAME]
    #[arg(long)]
    pub mask: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Fill a template: {{ palyra://... }} becomes the secret, {{{{ becomes {{
#[derive(Debug, Args)]
#[command(after_help = "Everything else stays byte for byte. What stands between double braces and is no\n\
                        reference is an error, with its line.")]
pub struct InjectArgs {
    /// The template; - for the standard input
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub input: PathBuf,
    /// Where to; - for the standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Permissions of the file
    #[arg(long, value_name = "MODE", default_value = "0600")]
    pub file_mode: FileMode,
    /// Replace a file that stands there; it becomes no wider open than it was
    #[arg(long)]
    pub force: bool,
}

/// Watches over a folder of mounted files.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The folder
    pub folder: PathBuf,
}
