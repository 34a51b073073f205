//! Whether comparisons of secrets take longer the more of a guess is right: Welch's t-test over two classes, as in
//! `dudect` (Reparaz, Balasch, Verbauwhede, 2017).

use std::hint::black_box;
use std::time::Instant;

use palyra_ledger::crypto::{Key, Opener, keyed_hash, open_sealed, seal_sealed, verify_mac};
use palyra_ledger::event::identity::ClientKind;
use palyra_ledger::identity::Code;
use palyra_ledger::identity::pake::{DeviceStart, LedgerStart, PROTOCOL_VERSION, Transcript, verifier};
use palyra_ledger::{DeviceId, LedgerId, OsRandom, PairingId, Random, SecretBytes};

use crate::Fault;
use crate::workload::Dice;

/// Measurements of each comparison.
pub const MEASUREMENTS: usize = 1_000_000;
/// The t from which two classes are told apart, as in `dudect`.
pub const BOUND: f64 = 4.5;
/// Measurements in a row whose t must reach the bound: of six comparisons that leak nothing, one reaches it now and then.
const ROW: usize = 3;
/// A planted leak is measured this many times less often: it is larger than what is looked for.
const PLANTED_LESS: usize = 10;
/// Pairings whose proofs leak, at the least.
const PLANTED_PROOFS: usize = 2_000;
/// Guesses of each class that take turns.
const GUESSES: usize = 64;
/// Of all measurements, in hundredths, those that are kept: interruptions are not the comparison's.
const KEPT: [usize; 4] = [50, 75, 90, 99];

/// What was found of one comparison.
#[derive(Debug)]
pub struct Timed {
    /// What was compared.
    pub what: &'static str,
    /// How often.
    pub measurements: usize,
    /// The largest t over all croppings, of each measurement: the first below the bound is the last.
    pub ts: Vec<f64>,
    /// Medians of both classes in nanoseconds, of the last measurement.
    pub medians: (u32, u32),
    /// The same with a comparison that ends early, in the same harness: this must be seen.
    pub planted: Option<Box<Self>>,
}

impl Timed {
    fn of(what: &'static str, times: &[(u32, bool)]) -> Self {
        let mut sorted: Vec<u32> = times.iter().map(|(time, _)| *time).collect();
        sorted.sort_unstable();
        let t = KEPT.iter().filter_map(|kept| sorted.get(sorted.len() * kept / 100)).map(|most| welch(times, *most));
        let (measurements, ts) = (times.len(), vec![t.fold(0.0, f64::max)]);
        Self { what, measurements, ts, medians: (median(times, false), median(times, true)), planted: None }
    }

    /// Whether the classes are told apart: in each of several measurements in a row.
    pub fn differs(&self) -> bool {
        self.ts.len() >= ROW && self.ts.iter().all(|t| *t >= BOUND)
    }
}

/// Measures until the classes are not told apart, or were in enough measurements.
fn row(mut once: impl FnMut() -> Result<Timed, Fault>) -> Result<Timed, Fault> {
    let mut timed = once()?;
    while timed.ts.iter().all(|t| *t >= BOUND) && timed.ts.len() < ROW {
        let again = once()?;
        timed.ts.extend(again.ts);
        timed.medians = again.medians;
    }
    Ok(timed)
}

/// Measures a comparison, and the same with some comparisons beside it that end early.
fn both(
    (what, measurements): (&'static str, usize),
    leaks: usize,
    right: &[u8],
    dice: &mut Dice,
    mut compare: impl FnMut(&[u8]) -> Result<bool, Fault>,
) -> Result<Timed, Fault> {
    let mut timed = row(|| measure(what, measurements, right, dice, &mut compare))?;
    let planted = row(|| {
        measure(what, measurements / PLANTED_LESS, right, dice, |guess| {
            let early = leaky(leaks, guess, right);
            Ok(compare(guess)? || early)
        })
    })?;
    timed.planted = Some(Box::new(planted));
    Ok(timed)
}

/// As many comparisons that end at the first difference.
fn leaky(leaks: usize, guess: &[u8], right: &[u8]) -> bool {
    (0..leaks).fold(false, |same, _| naive(black_box(guess), right) || same)
}

/// Guesses of both classes: some with nothing right, some with all but the last byte. They lie in one block, each as far
/// into a line of the cache as all others, and which class has which place is drawn: else one class could be copied from
/// slower places than the other, and be told apart by that.
struct Guesses {
    block: Vec<u8>,
    len: usize,
    nearly_right: Vec<bool>,
}

/// Bytes from guess to guess: whole lines of the cache.
const LINES: usize = 128;

impl Guesses {
    fn new(right: &[u8], dice: &mut Dice) -> Self {
        let mut all = Self { block: Vec::new(), len: right.len().min(LINES), nearly_right: Vec::new() };
        let mut left = (GUESSES, GUESSES);
        while left != (0, 0) {
            let class = dice.below((left.0 + left.1) as u64) >= left.0 as u64;
            *(if class { &mut left.1 } else { &mut left.0 }) -= 1;
            let mut guess = right.to_vec();
            let wrong = u8::try_from(1 + dice.below(255)).unwrap_or(1);
            if class {
                guess.last_mut().into_iter().for_each(|last| *last ^= wrong);
            } else {
                // Nothing right, from the first byte on.
                for byte in &mut guess {
                    *byte = u8::try_from(dice.below(256)).unwrap_or(0);
                }
                guess.iter_mut().zip(right).take(1).for_each(|(byte, right)| *byte = right ^ wrong);
            }
            guess.resize(LINES, 0);
            all.block.extend_from_slice(&guess);
            all.nearly_right.push(class);
        }
        all
    }

    /// A guess, and whether it is nearly right.
    fn get(&self, number: usize) -> Option<(&[u8], bool)> {
        let at = number * LINES;
        Some((self.block.get(at..at + self.len)?, *self.nearly_right.get(number)?))
    }
}

/// Measures a comparison with guesses of both classes, in an order that the dice decide.
fn measure(
    what: &'static str,
    measurements: usize,
    right: &[u8],
    dice: &mut Dice,
    mut compare: impl FnMut(&[u8]) -> Result<bool, Fault>,
) -> Result<Timed, Fault> {
    let guesses = Guesses::new(right, dice);
    // What is compared always stands in the same place.
    let mut place = right.to_vec();
    let mut times = Vec::with_capacity(measurements);
    for round in 0..measurements + measurements / 20 {
        let number = usize::try_from(dice.below(2 * GUESSES as u64)).unwrap_or(0);
        let (guess, class) = guesses.get(number).ok_or("no guess")?;
        place.copy_from_slice(guess);
        let begun = Instant::now();
        let same = compare(black_box(&place))?;
        let took = begun.elapsed();
        if same {
            return Err(format!("{what}: a wrong guess was taken").into());
        }
        // The first twentieth warms up.
        if round >= measurements / 20 {
            times.push((u32::try_from(took.as_nanos()).unwrap_or(u32::MAX), class));
        }
    }
    Ok(Timed::of(what, &times))
}

fn median(times: &[(u32, bool)], class: bool) -> u32 {
    let mut of: Vec<u32> = times.iter().filter(|(_, other)| *other == class).map(|(time, _)| *time).collect();
    of.sort_unstable();
    of.get(of.len() / 2).copied().unwrap_or(0)
}

/// Welch's t between the classes, of the measurements up to `most`.
fn welch(times: &[(u32, bool)], most: u32) -> f64 {
    let of = |class: bool| {
        let (mut count, mut mean, mut spread) = (0.0, 0.0, 0.0);
        for (time, _) in times.iter().filter(|(time, other)| *other == class && *time <= most) {
            count += 1.0;
            let gap = f64::from(*time) - mean;
            mean += gap / count;
            spread += gap * (f64::from(*time) - mean);
        }
        (mean, if count > 1.0 { spread / (count - 1.0) / count } else { 0.0 })
    };
    let ((one, one_spread), (other, other_spread)) = (of(false), of(true));
    let spread = (one_spread + other_spread).sqrt();
    if spread > 0.0 { (one - other).abs() / spread } else { 0.0 }
}

/// A comparison that ends at the first difference: what must be seen.
#[inline(never)]
fn naive(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| black_box(*one) == black_box(*other))
}

/// Every comparison of the product that can be reached, and the planted one, which comes first.
pub fn run(seed: u64, pairings: usize) -> Result<Vec<Timed>, Fault> {
    let mut dice = Dice::of(seed, 0x71e5);
    let random: &dyn Random = &OsRandom;
    let key = Key::generate(random)?;
    let message = [0x5a; 64];
    let mac = keyed_hash(&key, &[&message]).0;
    let mut all = Vec::new();
    let count = MEASUREMENTS;
    let name = "planted: 32 bytes, with an early end";
    all.push(row(|| measure(name, count, &mac, &mut dice, |guess| Ok(naive(guess, &mac))))?);
    let name = "MACs (`verify_mac`: head file, manifest, key commitments)";
    all.push(both((name, count), 1, &mac, &mut dice, |guess| {
        let guess: &[u8; 32] = guess.try_into()?;
        Ok(verify_mac(&key, &[&message], guess))
    })?);
    let opener = Opener::wrapping(&key);
    let nonce = random.array()?;
    let sealed = seal_sealed(&opener, &nonce, b"aad", &message);
    let commitment = sealed.get(nonce.len()..nonce.len() + 32).ok_or("no commitment")?.to_vec();
    let mut altered = sealed.clone();
    let name = "key commitments of sealed objects (`open_sealed`)";
    all.push(both((name, count), 1, &commitment, &mut dice, |guess| {
        altered.get_mut(nonce.len()..nonce.len() + 32).ok_or("no commitment")?.copy_from_slice(guess);
        Ok(open_sealed(&opener, b"aad", &altered).is_ok())
    })?);
    let mut buffer = message;
    let tag = opener.seal_uncommitted(&nonce, b"aad", &mut buffer);
    // Some 30 us each in a development build.
    let fewer = if cfg!(debug_assertions) { count / 10 } else { count };
    let name = "Poly1305 tags (`Opener::open_uncommitted`)";
    all.push(both((name, fewer), 8, &tag, &mut dice, |guess| {
        let guess: &[u8; 16] = guess.try_into()?;
        Ok(opener.open_uncommitted(&nonce, b"aad", &mut buffer, guess).is_ok())
    })?);
    let secret = SecretBytes::from(&mac[..]);
    all.push(both(("values of secrets (`SecretBytes ==`)", count), 1, &mac, &mut dice, |guess| {
        let guess = SecretBytes::from(guess);
        Ok(black_box(&secret) == black_box(&guess))
    })?);
    let mut timed = row(|| proofs(pairings, 0, &mut dice))?;
    let fewer = (pairings / PLANTED_LESS).max(PLANTED_PROOFS);
    timed.planted = Some(Box::new(row(|| proofs(fewer, 8, &mut dice))?));
    all.push(timed);
    Ok(all)
}

/// The proof of a pairing code at the daemon: the last step of OPAQUE, on a session of its own each time; where asked, some
/// comparisons that end early come before it.
fn proofs(measurements: usize, leaks: usize, dice: &mut Dice) -> Result<Timed, Fault> {
    let random: &dyn Random = &OsRandom;
    let (key, pairing) = (Key::generate(random)?, PairingId::from_bytes([3; 8]));
    let code = || "bcdf-123456".parse::<Code>();
    let verifier = verifier(random, &key, pairing, &code()?)?;
    let transcript = Transcript {
        version: PROTOCOL_VERSION,
        ledger: LedgerId::from_bytes([1; 16]),
        locator: "bcdf",
        ca_fingerprint: &[2; 32],
        ca_certificate: b"root",
        device: DeviceId::from_bytes([4; 16]),
        kind: ClientKind::Node,
        name: "box",
        public_key: b"key",
    };
    let mut times = Vec::with_capacity(measurements);
    for _ in 0..measurements {
        let (device, hello) = DeviceStart::new(random, code()?)?;
        let (ledger, answer) = LedgerStart::new(random, &key, pairing, &verifier, &hello, &transcript)?;
        let (_, mut proof) = device.finish(random, &answer, &transcript)?;
        let (class, right) = (dice.once_in(2), proof.clone());
        let wrong = if class { proof.last_mut() } else { proof.first_mut() };
        *wrong.ok_or("no proof")? ^= 1;
        let begun = Instant::now();
        let early = leaky(leaks, &proof, &right);
        let taken = ledger.finish(black_box(&proof)).is_ok() || early;
        let took = begun.elapsed();
        if taken {
            return Err("a wrong proof was taken".into());
        }
        times.push((u32::try_from(took.as_nanos()).unwrap_or(u32::MAX), class));
    }
    Ok(Timed::of("proofs of pairing codes (OPAQUE, the last MAC)", &times))
}
