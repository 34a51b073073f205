//! The `palyra-ledger` command.
#![forbid(unsafe_code)]

use std::alloc::System;

use zeroizing_alloc::ZeroAlloc;

/// Wipes what is freed: tokens and values pass through buffers of libraries that wipe nothing themselves.
#[global_allocator]
static WIPING: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> std::process::ExitCode {
    palyra_ledger::cli::main()
}
