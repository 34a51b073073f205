//! On a terminal: a pseudo terminal with a session of its own, as a person has.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::{CANARY, Home, Running};

struct Terminal {
    master: File,
    slave: OwnedFd,
}

impl Terminal {
    fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        Self { master: master.into(), slave }
    }

    /// Runs with this as its controlling terminal.
    fn start(&self, home: &Home, more: &[&str], script: &str) -> Running {
        let words = [&["run", "--env", "A=global/a"], more, &["--", "sh", "-c", script]].concat();
        self.start_words(home, &words)
    }

    /// Runs any command with this as its controlling terminal.
    fn start_words(&self, home: &Home, words: &[&str]) -> Running {
        let mut command = Command::new("setsid");
        home.prepare(&mut command);
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_palyra-ledger")]).args(words);
        let end = || Stdio::from(self.slave.try_clone().unwrap());
        Running(command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap())
    }

    /// Reads until something was shown.
    fn until(&mut self, wanted: &str) -> String {
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains(wanted) {
            let mut bytes = [0; 1024];
            let ready = rustix::event::poll(
                &mut [rustix::event::PollFd::new(&self.master, rustix::event::PollFlags::IN)],
                Some(&rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 }),
            );
            assert!(ready.unwrap() > 0, "{wanted:?} never came: {:?}", String::from_utf8_lossy(&shown));
            let read = self.master.read(&mut bytes).unwrap();
            shown.extend_from_slice(&bytes[..read]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    }
}

const SCRIPT: &str = "for n in 0 1 2; do test -t $n && printf 'tty%s ' $n; done; stty size <&1; \
                      printf '\\033[31m%s\\033[0m\\n' \"$A\"; echo end";

#[test]
fn a_terminal_stays_one_with_and_without_a_mask() {
    let home = Home::new();
    for (mode, secret) in [(&[][..], CANARY), (&["--mask"], "[masked:A]")] {
        let mut terminal = Terminal::new();
        let mut running = terminal.start(&home, mode, SCRIPT);
        let shown = terminal.until("end\r\n");
        assert!(shown.contains("tty0 tty1 tty2 33 77\r\n"), "{mode:?}: {shown:?}");
        assert!(shown.contains(&format!("\u{1b}[31m{secret}\u{1b}[0m\r\n")), "{mode:?}: {shown:?}");
        assert!(running.status().success());
    }
}

#[test]
fn the_log_is_replayed_step_by_step_with_keys_in_both_directions() {
    let home = Home::new();
    let mut terminal = Terminal::new();
    let mut running = terminal.start_words(&home, &["replay", "--follow", "--at", "1"]);
    let press = |terminal: &mut Terminal, keys: &[u8], wanted: &str| {
        terminal.master.write_all(keys).unwrap();
        terminal.until(wanted)
    };
    terminal.until("q: leave");
    press(&mut terminal, b"bb", "this is the first event");
    let shown = press(&mut terminal, &[b' '; 64], "this is the last event");
    assert!(shown.contains("global/a") && !shown.contains(CANARY), "{shown:?}");
    terminal.master.write_all(b"q").unwrap();
    assert!(running.status().success());
}

#[test]
fn an_interrupt_from_the_keyboard_comes_once() {
    let home = Home::new();
    for mode in [&[][..], &["--mask"]] {
        let mut terminal = Terminal::new();
        let script = "n=0; trap 'n=$((n+1))' INT; echo ready; while test $n = 0; do sleep 0.05; done; sleep 0.5; \
                      echo \"interrupts $n.\"; exit 6";
        let mut running = terminal.start(&home, mode, script);
        terminal.until("ready");
        terminal.master.write_all(b"\x03").unwrap();
        let shown = terminal.until("interrupts");
        let shown = if shown.contains("interrupts 1.") { shown } else { shown + &terminal.until(".") };
        assert!(shown.contains("interrupts 1."), "{mode:?}: {shown:?}");
        assert_eq!(running.status().code(), Some(6));
    }
}

#[test]
fn the_size_follows_the_terminal_through_a_mask() {
    let home = Home::new();
    let mut terminal = Terminal::new();
    let script = "trap 'stty size <&1; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut running = terminal.start(&home, &["--mask"], script);
    terminal.until("ready");
    tcsetwinsize(&terminal.master, Winsize { ws_row: 44, ws_col: 55, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    terminal.until("44 55");
    assert!(running.status().success());
}
