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
/// The t from which two classes are told apart.
pub const BOUND: f64 = 10.0;
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
    /// The largest t over all croppings.
    pub t: f64,
    /// Medians of both classes in nanoseconds.
    pub medians: (u32, u32),
}

/// Guesses of both classes, in memory of the same kind: some with nothing right, some with all but the last byte.
struct Guesses(Vec<Vec<u8>>);

impl Guesses {
    fn new(right: &[u8], dice: &mut Dice) -> Self {
        let mut all = Vec::with_capacity(2 * GUESSES);
        for number in 0..2 * GUESSES {
            let mut guess = right.to_vec();
            let wrong = u8::try_from(1 + dice.below(255)).unwrap_or(1);
            if number % 2 == 0 {
                // Nothing right, from the first byte on.
                for byte in &mut guess {
                    *byte = u8::try_from(dice.below(256)).unwrap_or(0);
                }
                guess.iter_mut().zip(right).take(1).for_each(|(byte, right)| *byte = right ^ wrong);
            } else if let Some(last) = guess.last_mut() {
                *last ^= wrong;
            }
            all.push(guess);
        }
        Self(all)
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
        place.copy_from_slice(guesses.0.get(number).ok_or("no guess")?);
        let begun = Instant::now();
        let same = compare(black_box(&place))?;
        let took = begun.elapsed();
        if same {
            return Err(format!("{what}: a wrong guess was taken").into());
        }
        // The first twentieth warms up.
        if round >= measurements / 20 {
            times.push((u32::try_from(took.as_nanos()).unwrap_or(u32::MAX), number % 2 == 1));
        }
    }
    let mut sorted: Vec<u32> = times.iter().map(|(time, _)| *time).collect();
    sorted.sort_unstable();
    let t = KEPT.iter().filter_map(|kept| sorted.get(sorted.len() * kept / 100)).map(|most| welch(&times, *most));
    Ok(Timed { what, measurements, t: t.fold(0.0, f64::max), medians: (median(&times, false), median(&times, true)) })
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
    all.push(measure("planted: 32 bytes, with an early end", count, &mac, &mut dice, |guess| Ok(naive(guess, &mac)))?);
    let name = "MACs (`verify_mac`: head file, manifest, key commitments)";
    all.push(measure(name, count, &mac, &mut dice, |guess| {
        let guess: &[u8; 32] = guess.try_into()?;
        Ok(verify_mac(&key, &[&message], guess))
    })?);
    let opener = Opener::wrapping(&key);
    let nonce = random.array()?;
    let sealed = seal_sealed(&opener, &nonce, b"aad", &message);
    let commitment = sealed.get(nonce.len()..nonce.len() + 32).ok_or("no commitment")?.to_vec();
    let mut altered = sealed.clone();
    all.push(measure("key commitments of sealed objects (`open_sealed`)", count, &commitment, &mut dice, |guess| {
        altered.get_mut(nonce.len()..nonce.len() + 32).ok_or("no commitment")?.copy_from_slice(guess);
        Ok(open_sealed(&opener, b"aad", &altered).is_ok())
    })?);
    let mut buffer = message;
    let tag = opener.seal_uncommitted(&nonce, b"aad", &mut buffer);
    // Some 30 us each in a development build.
    let fewer = if cfg!(debug_assertions) { count / 10 } else { count };
    all.push(measure("Poly1305 tags (`Opener::open_uncommitted`)", fewer, &tag, &mut dice, |guess| {
        let guess: &[u8; 16] = guess.try_into()?;
        Ok(opener.open_uncommitted(&nonce, b"aad", &mut buffer, guess).is_ok())
    })?);
    let secret = SecretBytes::from(&mac[..]);
    all.push(measure("values of secrets (`SecretBytes ==`)", count, &mac, &mut dice, |guess| {
        let guess = SecretBytes::from(guess);
        Ok(black_box(&secret) == black_box(&guess))
    })?);
    all.push(proofs(pairings, &mut dice)?);
    Ok(all)
}

/// The proof of a pairing code at the daemon: the last step of OPAQUE, on a session of its own each time.
fn proofs(measurements: usize, dice: &mut Dice) -> Result<Timed, Fault> {
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
        let class = dice.once_in(2);
        let wrong = if class { proof.last_mut() } else { proof.first_mut() };
        *wrong.ok_or("no proof")? ^= 1;
        let begun = Instant::now();
        let taken = ledger.finish(black_box(&proof)).is_ok();
        let took = begun.elapsed();
        if taken {
            return Err("a wrong proof was taken".into());
        }
        times.push((u32::try_from(took.as_nanos()).unwrap_or(u32::MAX), class));
    }
    let mut sorted: Vec<u32> = times.iter().map(|(time, _)| *time).collect();
    sorted.sort_unstable();
    let t = KEPT.iter().filter_map(|kept| sorted.get(sorted.len() * kept / 100)).map(|most| welch(&times, *most));
    Ok(Timed {
        what: "proofs of pairing codes (OPAQUE, the last MAC)",
        measurements,
        t: t.fold(0.0, f64::max),
        medians: (median(&times, false), median(&times, true)),
    })
}
