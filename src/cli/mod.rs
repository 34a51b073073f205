//! The command line. Its JSON fields and exit codes are stable; its Rust interface is not.

pub mod args;
mod auth;
mod backup;
mod ca;
mod certs;
mod complete;
mod compromise;
mod devices;
mod doctor;
pub mod exit;
mod export;
mod import;
mod init;
mod interrupt;
mod invocation;
mod keys;
mod log;
pub mod output;
mod pairing;
mod programs;
mod progress;
mod remote;
mod replay;
mod resolve;
mod resolving;
mod seat;
mod secrets;
mod serve;
pub mod story;
mod time;
mod tour;

use std::ffi::OsString;
use std::sync::OnceLock;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};
use exit::{ExitCode, Failure};
use invocation::Invocation;
use output::Output;

/// Runs the program with the process's arguments, and says how it went.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::panic::set_hook(Box::new(|info| {
        // Panics inside the second copy's engine are caught where it is called, and recorded there.
        if !crate::store::inside_sled() {
            let place =
                info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
            let failure =
                Failure::new(ExitCode::Internal, format!("a fault in the program itself{place}"), "please report it");
            output::print_failure(&failure, false);
        }
    }));
    // Whatever is made from here on is made for the user alone, the second copy's files too.
    let callers = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let _ = CALLERS_UMASK.set(callers);
    let code = std::panic::catch_unwind(|| run(std::env::args_os().collect()));
    code.unwrap_or(ExitCode::Internal.number()).into()
}

static CALLERS_UMASK: OnceLock<rustix::fs::Mode> = OnceLock::new();

/// The permissions that whoever started the program withholds: a program that it starts gets them back.
fn callers_umask() -> rustix::fs::Mode {
    CALLERS_UMASK.get().copied().unwrap_or(rustix::fs::Mode::from_raw_mode(0o077))
}

/// Runs a command line; the status is an [`ExitCode`], or that of the program that was run.
fn run(arguments: Vec<OsString>) -> u8 {
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &arguments).number(),
    };
    let Cli { mut global, command } = cli;
    if let Command::Run(args) = &command {
        global.reason.get_or_insert_with(|| args.reason());
    }
    let json = global.format == args::Format::Json;
    let out = match Output::new(global.format, global.color) {
        Ok(out) => out,
        Err(failure) => {
            output::print_failure(&failure, json);
            return failure.code.number();
        }
    };
    let invocation = Invocation::new(global, out);
    let words = arguments.get(1..).unwrap_or_default();
    if let Some(code) = remote::forward(&invocation, &command, words) {
        return code.number();
    }
    match command {
        Command::Run(args) => programs::run(&invocation, &args).unwrap_or_else(|failure| {
            invocation.out.failure(&failure);
            failure.code.number()
        }),
        command => finish(&invocation, command).number(),
    }
}

/// Runs a command to its end, and says how it went.
fn finish(invocation: &Invocation, command: Command) -> ExitCode {
    let done = dispatch(invocation, command).and_then(|()| invocation.out.flush());
    match done {
        Ok(()) => ExitCode::Ok,
        Err(failure) => {
            invocation.out.failure(&failure);
            failure.code
        }
    }
}

fn dispatch(invocation: &Invocation, command: Command) -> Result<(), Failure> {
    match command {
        Command::Init(args) => init::run(invocation, &args),
        Command::Secrets(command) => secrets::run(invocation, command),
        Command::Resolve(args) => resolve::run(invocation, &args),
        Command::Resolving => resolving::attend(invocation),
        Command::Keys(command) => keys::run(invocation, command),
        Command::Log(command) => log::run(invocation, command),
        Command::Compromise(command) => compromise::run(invocation, &command),
        Command::Replay(args) => replay::run(invocation, &args),
        Command::Pairing(command) => pairing::run(invocation, command),
        Command::Devices(command) => devices::run(invocation, command),
        Command::Certs(command) => certs::run(invocation, command),
        Command::Ca(command) => ca::run(invocation, &command),
        Command::Auth(command) => auth::run(invocation, command),
        Command::Backup(command) => backup::run(invocation, command),
        Command::Serve(args) => serve::run(invocation, &args),
        Command::Run(_) => Err(Failure::usage("a program is run where its caller is", "run the command itself")),
        Command::Inject(args) => programs::inject(invocation, &args),
        Command::WatchMounts(args) => {
            programs::watch(&args);
            Ok(())
        }
        Command::Import(command) => import::run(invocation, command),
        Command::Export(args) => export::run(invocation, &args),
        Command::Doctor(args) => doctor::run(invocation, &args),
        Command::Tour(args) => tour::run(invocation, &args),
        Command::ExitCodes => complete::exit_codes(invocation),
        Command::Completions { shell } => complete::script(invocation, shell),
    }
}

/// Help and version are data; everything else is a refusal.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that went away needs no help.
            let _ = error.print();
            ExitCode::Ok
        }
        _ if wants_json(arguments) => {
            let text = error.to_string();
            let said: Vec<&str> = text.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim).collect();
            let what = said.join(" ").trim().trim_start_matches("error: ").to_owned();
            output::print_failure(&Failure::usage(what, "`palyra-ledger --help` shows the commands"), true);
            ExitCode::Usage
        }
        _ => {
            // The message repeats what was typed, which may hold what drives a terminal.
            output::print_lines(&error.to_string());
            ExitCode::Usage
        }
    }
}

/// Whether JSON was asked for, on a command line that does not parse.
fn wants_json(arguments: &[OsString]) -> bool {
    let mut flag = None;
    for (index, argument) in arguments.iter().enumerate() {
        match argument.to_str() {
            Some("--") => break,
            Some("--format") => flag = arguments.get(index + 1).cloned(),
            Some(text) if text.starts_with("--format=") => flag = Some(text.trim_start_matches("--format=").into()),
            _ => {}
        }
    }
    flag.or_else(|| std::env::var_os("PALYRA_LEDGER_FORMAT")).is_some_and(|value| value == "json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_is_seen_on_a_command_line_that_does_not_parse() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(wants_json(&words("p --format json nonsense")));
        assert!(wants_json(&words("p nonsense --format=json")));
        assert!(!wants_json(&words("p nonsense --format table")));
        assert!(!wants_json(&words("p -- --format json")));
    }
}
