//! What of a secret is seen in an output.

use std::io::{Read, Write};

use crate::{CANARY, Home, Running, finish};

fn masked(home: &Home, script: &str) -> (String, String) {
    let output = home.run(&["run", "--env", "A=global/a", "--mask", "--", "sh", "-c", script]);
    assert!(output.status.success());
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_secret_is_masked_in_both_outputs_and_in_what_programs_make_of_it() {
    let home = Home::new();
    let (out, error) = masked(&home, "echo \"a $A b\"; echo \"<$A>\" >&2");
    assert_eq!((out.as_str(), error.as_str()), ("a [masked:A] b\n", "<[masked:A]>\n"));
    let (out, _) = masked(&home, "printf %s \"$A\" | base64; printf 'user:%s' \"$A\" | base64 -w0; echo");
    assert!(out.starts_with("[masked:A]\n"), "{out}");
    assert_eq!(out.matches("[masked:A]").count(), 2, "{out}");
    let (out, _) = masked(&home, "printf %s \"$A\" | od -An -v -tx1 | tr -d ' \\n'");
    assert_eq!(out, "[masked:A]");
}

#[test]
fn a_secret_in_pieces_is_masked_and_a_prompt_is_not_held_back() {
    let home = Home::new();
    let script = format!("printf '%s' '{}'; sleep 0.4; printf '%s' '{}'; printf x", &CANARY[..9], &CANARY[9..]);
    let (out, _) = masked(&home, &script);
    // After a pause the beginning is shown, shorter than any value that is masked; the rest is not.
    assert!(out == "[masked:A]x" || out == format!("{}[masked:A]x", &CANARY[..3]), "{out}");

    let script = "printf 'name, in c'; read line; echo \"hello $line\"";
    let mut running =
        Running::start(&mut home.command(&["run", "--env", "A=global/a", "--mask", "--", "sh", "-c", script]));
    let mut out = running.0.stdout.take().unwrap();
    let mut prompt = [0; 10];
    out.read_exact(&mut prompt).unwrap();
    assert_eq!(&prompt, b"name, in c", "it ends like the secret begins, and is there");
    running.0.stdin.take().unwrap().write_all(b"ana\n").unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "hello ana\n");
    assert!(running.status().success());
}

#[test]
fn other_bytes_pass_as_they_are() {
    let home = Home::new();
    let bytes: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let command = home.command(&["run", "--env", "A=global/a", "--mask", "--", "cat"]);
    assert!(finish(command, &bytes).stdout == bytes);
}

#[test]
fn a_value_that_is_too_short_is_named() {
    let home = Home::new();
    home.set("global/pin", b"123");
    let output = home.run(&["run", "--env", "PIN=global/pin", "--mask", "--", "sh", "-c", "echo $PIN"]);
    assert_eq!(output.stdout, b"123\n");
    assert!(String::from_utf8(output.stderr).unwrap().contains("PIN is shorter than 4 bytes"));
}

#[test]
fn what_a_program_leaves_running_does_not_keep_us() {
    let home = Home::new();
    let (out, _) = masked(&home, "sleep 300 & echo \"pid $!\"");
    let pid: i32 = out.trim().strip_prefix("pid ").unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

#[test]
fn an_output_that_does_not_block_loses_nothing() {
    let home = Home::new();
    let (outlet, inlet) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::fs::fcntl_setfl(&inlet, rustix::fs::OFlags::NONBLOCK).unwrap();
    let script = "head -c 1000000 /dev/zero; echo \"$A\"";
    let mut command = home.command(&["run", "--env", "A=global/a", "--mask", "--", "sh", "-c", script]);
    let mut running = Running(command.stdout(inlet).spawn().unwrap());
    drop(command);
    // The pipe is full by now, and nobody takes anything.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut seen = Vec::new();
    std::fs::File::from(outlet).read_to_end(&mut seen).unwrap();
    assert_eq!(seen.len(), 1_000_000 + "[masked:A]\n".len());
    assert!(running.status().success());
}
