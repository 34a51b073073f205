//! `log query`: events by who, what, when and how it ended.

use std::ops::ControlFlow;

use clap::{Args, ValueEnum};

use crate::cli::exit::Failure;
use crate::cli::invocation::{Access, Invocation};
use crate::cli::progress;
use crate::engine::Scan;

use super::filter::{Filter, FilterArgs, MoreArgs};
use super::{header, print_entry};

/// Arguments of `log query`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    more: MoreArgs,
    /// From this event on; with --order newest, from the newest down to this one
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Up to this event
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Which come first
    #[arg(long, value_enum, default_value = "oldest")]
    order: Order,
    /// Most events that are shown; the number of the last one is where the next page begins
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// The oldest event first.
    Oldest,
    /// The newest event first.
    Newest,
}

/// Runs `log query`.
pub fn run(invocation: &Invocation, args: &QueryArgs) -> Result<(), Failure> {
    let filter = Filter::new(&args.filter, invocation.global.actor.clone())?.and(&args.more)?;
    let ledger = invocation.open(Access::Known)?;
    let log = ledger.log();
    // Times never run backwards: what lies outside is not even looked at.
    let from = match filter.since() {
        Some(since) => args.from.max(log.first_at(since)?),
        None => args.from,
    };
    let to = match filter.until() {
        Some(until) => log.first_at(until.plus_millis(1))?.checked_sub(1).map_or(0, |last| last.min(args.to)),
        None => args.to,
    };
    let out = &invocation.out;
    header(out)?;
    let (mut left, mut failed) = (args.limit.unwrap_or(u64::MAX), None);
    let (mut last, mut more) = (None, false);
    progress::bar(invocation, "searching", |tell| {
        let scan = Scan {
            from,
            to,
            newest_first: args.order == Order::Newest,
            header: &|header| filter.may_want(header),
            wants: &|entry| filter.wants(entry),
            progress: Some(tell),
        };
        log.scan(&scan, &mut |entry| {
            if left == 0 || invocation.seat.is_gone() {
                more = left == 0;
                return ControlFlow::Break(());
            }
            left -= 1;
            last = Some(entry.seq);
            match print_entry(out, &entry) {
                Ok(()) => ControlFlow::Continue(()),
                Err(failure) => {
                    failed = Some(failure);
                    ControlFlow::Break(())
                }
            }
        })
    })?;
    invocation.close(&ledger);
    if let Some(last) = last.filter(|_| more) {
        let next = match args.order {
            Order::Oldest => format!("--from {}", last + 1),
            Order::Newest => format!("--to {}", last.saturating_sub(1)),
        };
        out.note(&format!("there are more: {next} shows the next page"));
    }
    failed.map_or(Ok(()), Err)
}
