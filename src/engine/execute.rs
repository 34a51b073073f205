//! The one loop: decide, dry fold, queue; seal, append, sync, publish.
//!
//! Decisions are made one at a time under the queue's mutex, against the published state with the
//! queued batches on top, so that two commands can never both win a compare-and-set. The thread that
//! finds nobody writing leads: it seals what is queued, chains it, appends it as one group, syncs
//! once, publishes, and wakes the others. A lone writer therefore never changes threads.
//!
//! | invariant | here |
//! |---|---|
//! | I1 state is the fold of the events | the dry fold's changes are the published ones |
//! | I2 nothing visible before durable | [`Core::lead`] publishes after the journal's sync |
//! | I7 time, randomness and actor enter through the context | [`Core::context`] |
//! | I8 an I/O fault ends the writer | [`Core::lead`] stores the cause; nobody is acknowledged |

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::auth::{AuthError, Registry};
use crate::base::{Caller, Context, Delta, StateRead, Timestamp, limits};
use crate::event::system::{ClockStepped, CommandRefused};
use crate::event::{self, Event};
use crate::identity::Trust;
use crate::log::frame::{self, Header, Sealing};
use crate::log::{Group, Last};

use super::core::{Core, Queue, QueuedBatch};
use super::error::Error;
use super::fold;
use super::overlay::Overlay;

/// Proof that a batch is durable and visible; only the log makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Sequence number of the batch's last event.
    pub seq: u64,
    /// Its time.
    pub time: Timestamp,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    no: u64,
    committed: Committed,
}

impl Ticket {
    /// The batch's number, for [`Core::wait`].
    pub(super) const fn number(self) -> u64 {
        self.no
    }

    /// What the batch will be once [`Core::wait`] returned.
    pub(super) const fn committed(self) -> Committed {
        self.committed
    }
}

impl Core {
    /// The live view of device trust; read under the queue's mutex, so that no batch is missed.
    pub(super) fn trust(&self) -> Result<Arc<Trust>, Error> {
        let _publishing = self.queue();
        if let Some(trust) = self.trust.get() {
            return Ok(Arc::clone(trust));
        }
        let latest = Timestamp::from_millis(self.latest.load(Ordering::Acquire));
        let trust = Arc::new(Trust::read(&self.index, latest)?);
        Ok(Arc::clone(self.trust.get_or_init(|| trust)))
    }

    /// The live view of profiles; read under the queue's mutex, so that no batch is missed.
    pub(super) fn registry(&self) -> Result<Arc<Registry>, Error> {
        if let Some(registry) = self.registry.get() {
            return Ok(Arc::clone(registry));
        }
        let _publishing = self.queue();
        let read = Registry::read(&self.index, self.settings.auth.refresh_window_s * 1000);
        let registry = Arc::new(read.map_err(AuthError::from)?);
        Ok(Arc::clone(self.registry.get_or_init(|| registry)))
    }

    /// Waits until what a live view was told of is in the index: views hear of a batch a moment before.
    pub(super) fn settled(&self) {
        drop(self.queue());
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a result of the write path on; a fault of the storage ends the writer.
    pub(super) fn guard<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| {
            if error.is_storage_fault() {
                self.queue().dead.get_or_insert_with(|| error.to_string().into());
                self.published.notify_all();
            }
        })
    }

    /// Whether an earlier fault ended the writer.
    pub(super) fn is_dead(&self) -> bool {
        self.alive().is_err()
    }

    /// An error once the ledger is closed.
    pub(super) fn open_still(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// An error with the first fault, if there was one.
    pub(super) fn alive(&self) -> Result<(), Error> {
        match &self.queue().dead {
            Some(cause) => Err(Error::Dead { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    /// Looks at the state with the queued batches on top.
    pub(super) fn consult<T>(&self, look: impl FnOnce(&dyn StateRead) -> T) -> T {
        let queue = self.queue();
        look(&queue.overlay.on(&self.index))
    }

    fn context(&self, queue: &Queue, caller: &Caller) -> Result<(Context, Timestamp), Error> {
        let observed = self.clock.now();
        let now = observed.max(queue.last_time);
        Ok((Context { now, caller: caller.clone(), nonce: self.random.array()? }, observed))
    }

    /// Runs one command through the loop and waits until its events are durable. A decision without
    /// events is no batch: nothing is written and the last event stands for it.
    pub(super) fn execute<T, E: Into<Error>>(
        &self,
        caller: &Caller,
        decide: impl FnOnce(&dyn StateRead, &Context) -> Result<(Vec<Event>, T), E>,
    ) -> Result<(Committed, T), Error> {
        let (ticket, value) = self.enqueue(caller, decide)?;
        self.wait(ticket.no)?;
        Ok((ticket.committed, value))
    }

    /// Decides and queues; the events are durable once [`Core::wait`] returns.
    pub(super) fn enqueue<T, E: Into<Error>>(
        &self,
        caller: &Caller,
        decide: impl FnOnce(&dyn StateRead, &Context) -> Result<(Vec<Event>, T), E>,
    ) -> Result<(Ticket, T), Error> {
        self.enqueue_as(caller, |state, context| decide(state, context).map_err(Into::into))
    }

    /// As [`Core::enqueue`], for a decision with errors of its own.
    pub(super) fn enqueue_as<T, E: From<Error>>(
        &self,
        caller: &Caller,
        decide: impl FnOnce(&dyn StateRead, &Context) -> Result<(Vec<Event>, T), E>,
    ) -> Result<(Ticket, T), E> {
        self.open_still()?;
        if self.read_only {
            return Err(Error::ReadOnly.into());
        }
        let mut queue = self.queue();
        while queue.bytes > limits::QUEUE_BYTES_MAX && queue.dead.is_none() {
            queue = self.published.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(cause) = &queue.dead {
            return Err(Error::Dead { cause: Arc::clone(cause) }.into());
        }
        let (context, observed) = self.context(&queue, caller)?;
        let view = queue.overlay.on(&self.index);
        let (mut events, value) = decide(&view, &context)?;
        let committed = |seq: u64| Committed { seq, time: context.now };
        if events.is_empty() {
            // Everything this decision rests on must be durable before it is acknowledged.
            let no = queue.next_no.saturating_sub(1);
            return Ok((Ticket { no, committed: committed(queue.next_seq.saturating_sub(1)) }, value));
        }
        let behind = context.now.as_millis() - observed.as_millis();
        let skewed = behind > limits::CLOCK_SKEW_TOLERANCE_MS;
        if skewed && !queue.skewed {
            // A batch is sealed under one epoch, and what stands behind the event that begins one is of the next.
            let begins = events.iter().position(|event| matches!(event, Event::EpochStarted(_)));
            let stepped = Event::ClockStepped(ClockStepped { observed, recorded: context.now });
            events.insert(begins.unwrap_or(events.len()), stepped);
        }
        if events.len() > limits::BATCH_EVENTS_MAX {
            return Err(Error::BatchTooLarge { events: events.len() }.into());
        }
        let batch = self.dry_fold(&queue, &context, &events)?;
        queue.skewed = skewed;
        Ok((push(&mut queue, batch, context.now), value))
    }

    /// Folds the events onto the queued state without touching it, and encodes their bodies. A batch
    /// that does not fold is refused here, before a byte of it is written.
    fn dry_fold(&self, queue: &Queue, context: &Context, events: &[Event]) -> Result<(QueuedBatch, u32), Error> {
        let mut delta = Delta::new();
        let mut bodies = Vec::with_capacity(events.len());
        let mut next_epoch = queue.epoch;
        let mut staged = Overlay::default();
        let queued = queue.overlay.on(&self.index);
        for (seq, event) in (queue.next_seq..).zip(events) {
            let changes = fold::apply(&staged.on(&queued), seq, context.now, event)
                .map_err(|source| Error::Fold { seq, source })?;
            if events.len() > 1 {
                staged.stage(0, &changes);
            }
            delta.extend(changes);
            if let Event::EpochStarted(started) = event {
                next_epoch = started.epoch;
            }
            bodies.push(event::encode(&context.caller, event).map_err(|source| Error::Codec { seq, source })?);
        }
        let batch = QueuedBatch {
            no: queue.next_no,
            first_seq: queue.next_seq,
            time: context.now,
            epoch: queue.epoch,
            events: bodies,
            delta,
        };
        Ok((batch, next_epoch))
    }

    /// Waits until the batch is durable and visible, leading the write if nobody does. Whoever waits is
    /// parked and not on the mutex: with many writers, handing the mutex around costs more than the work.
    pub(super) fn wait(&self, no: u64) -> Result<(), Error> {
        loop {
            if self.done.load(Ordering::Acquire) > no {
                return Ok(());
            }
            let mut queue = self.queue();
            if queue.done > no {
                return Ok(());
            }
            if let Some(cause) = &queue.dead {
                return Err(Error::Dead { cause: Arc::clone(cause) });
            }
            if queue.leading || queue.waiting.is_empty() {
                queue.parked.push(std::thread::current());
                drop(queue);
                std::thread::park();
            } else {
                self.lead(queue)?;
            }
        }
    }

    /// Ends a lead: the next thread may, and whoever waited looks again.
    fn step_down(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.leading = false;
        let parked = std::mem::take(&mut queue.parked);
        drop(queue);
        for thread in parked {
            thread.unpark();
        }
        self.published.notify_all();
    }

    /// Writes what is queued as one group.
    fn lead(&self, mut queue: MutexGuard<'_, Queue>) -> Result<(), Error> {
        queue.leading = true;
        let mut group = Vec::new();
        let mut bytes = 0;
        while bytes < limits::GROUP_BYTES_MAX
            && let Some(batch) = queue.waiting.pop_front()
        {
            bytes += batch_bytes(&batch);
            group.push(batch);
        }
        queue.bytes = queue.bytes.saturating_sub(bytes);
        drop(queue);
        let written = self.seal_and_append(&group);
        let mut queue = self.queue();
        match written {
            Ok(last) => {
                // Durable: make visible. Decisions wait for the mutex, so none sees a half of this.
                for batch in group {
                    queue.overlay.settle(batch.no, &batch.delta);
                    queue.done = batch.no + 1;
                    if let Some(trust) = self.trust.get() {
                        trust.observe(&batch.delta, batch.time);
                    }
                    if let Some(registry) = self.registry.get() {
                        registry.observe(&batch.delta);
                    }
                    self.index.apply(batch.delta);
                }
                self.latest.fetch_max(last.time.as_millis(), Ordering::Release);
                self.visible.store(last.seq + 1, Ordering::Release);
                self.done.store(queue.done, Ordering::Release);
                self.step_down(queue);
                Ok(())
            }
            Err(error) => {
                queue.dead = Some(error.to_string().into());
                queue.waiting.clear();
                queue.overlay.clear();
                self.step_down(queue);
                Err(error)
            }
        }
    }

    fn seal_and_append(&self, batches: &[QueuedBatch]) -> Result<Last, Error> {
        let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        let unlocked = self.unlocked();
        let mut group = Group::default();
        let mut prev = *chain;
        let group_start = batches.first().map_or(0, |batch| batch.first_seq);
        let frames: usize = batches.iter().map(|batch| batch.events.len()).sum();
        let mut nonces = vec![0; frames * 24];
        self.random.fill(&mut nonces)?;
        let mut nonces = nonces.as_slice();
        group.bytes.reserve(batches.iter().map(batch_bytes).sum());
        for batch in batches {
            let opener = unlocked.epoch(batch.epoch)?;
            let batch_len = u16::try_from(batch.events.len()).unwrap_or(u16::MAX);
            for ((index, seq), body) in (0..).zip(batch.first_seq..).zip(&batch.events) {
                let header = Header {
                    ledger_id: self.ledger_id,
                    seq,
                    prev,
                    time: batch.time,
                    group_start,
                    kind: body.kind,
                    schema: body.schema,
                    epoch: batch.epoch,
                    batch_index: index,
                    batch_len,
                    body_len: 0,
                    nonce: [0; 24],
                    commitment: [0; 32],
                };
                let (nonce, rest) = nonces.split_first_chunk().ok_or(Error::BatchTooLarge { events: frames })?;
                nonces = rest;
                group.starts.push(u32::try_from(group.bytes.len()).unwrap_or(u32::MAX));
                prev = frame::seal(header, &Sealing { opener: &opener, nonce: *nonce }, &body.plain, &mut group.bytes);
                group.last = Some(Last { seq, hash: prev, time: batch.time });
            }
        }
        self.journal.append(&group)?;
        *chain = prev;
        group.last.ok_or(Error::BatchTooLarge { events: 0 })
    }

    /// Records a refusal as an event of its own, where the refusal matters to an auditor.
    pub(super) fn record_refusal(
        &self,
        caller: &Caller,
        command: &str,
        target: Option<String>,
        code: &str,
        what: String,
    ) -> Result<(), Error> {
        let refused = CommandRefused { command: command.to_owned(), target, code: code.to_owned(), what };
        self.execute(caller, |_, _| Ok::<_, Error>((vec![Event::CommandRefused(refused)], ()))).map(|_| ())
    }
}

fn batch_bytes(batch: &QueuedBatch) -> usize {
    batch.events.iter().map(|body| frame::FRAME_OVERHEAD + body.plain.len()).sum()
}

fn push(queue: &mut Queue, (batch, next_epoch): (QueuedBatch, u32), now: Timestamp) -> Ticket {
    let last_seq = batch.first_seq + batch.events.len() as u64 - 1;
    let no = batch.no;
    queue.overlay.stage(no, &batch.delta);
    queue.bytes += batch_bytes(&batch);
    queue.next_seq = last_seq + 1;
    queue.last_time = now;
    queue.epoch = next_epoch;
    queue.next_no += 1;
    queue.waiting.push_back(batch);
    Ticket { no, committed: Committed { seq: last_seq, time: now } }
}
