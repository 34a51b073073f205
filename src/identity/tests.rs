//! The domain as a whole: decisions folded onto a state in memory, as the engine does it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::base::{
    Actor, Caller, Context, DeviceId, DeviceName, PairingId, RequestId, Serial, StateError, StateRead, Timestamp,
    Visit, limits,
};
use crate::event::Event;
use crate::event::identity::{
    CaActivated, CaCertified, CaPrepared, CaRevoked, CaTainted, ClientKind, CodeMethod, Der, EndCause, IssueCause,
    RefusalCause, Subject, Verifier,
};

const ROOT_END: u64 = 1_000_000_000 + limits::ROOT_LIFE_MS;

#[derive(Default)]
struct World {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    seq: u64,
    now: u64,
}

impl StateRead for World {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.map.get(key).cloned())
    }

    fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        for (key, value) in self.map.range(from.to_vec()..).take_while(|(key, _)| end.is_empty() || &key[..] < end) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self { now: 1_000_000_000, ..Self::default() };
        world
            .fold(Event::CaCertified(CaCertified {
                generation: 1,
                certificate: Der::new([1]),
                not_after: Timestamp::from_millis(ROOT_END),
            }))
            .unwrap();
        world
    }

    fn fold(&mut self, event: Event) -> Result<(), ApplyFault> {
        let delta = apply(self, self.seq, Timestamp::from_millis(self.now), &event)?;
        self.seq += 1;
        for (key, value) in delta {
            match value {
                Some(value) => drop(self.map.insert(key.into(), value.into())),
                None => drop(self.map.remove(&*key)),
            }
        }
        Ok(())
    }

    fn run<T>(
        &mut self,
        decide: impl FnOnce(&dyn StateRead, &Context) -> Result<(Vec<Event>, T), IdentityError>,
    ) -> Result<(usize, T), IdentityError> {
        let caller = Caller::library(Actor::new("test").unwrap());
        let nonce = std::array::from_fn(|at| u8::try_from((self.seq + at as u64) % 251).unwrap());
        let context = Context { now: Timestamp::from_millis(self.now), caller, nonce };
        let (events, value) = decide(self, &context)?;
        let count = events.len();
        for event in events {
            self.fold(event).unwrap();
        }
        Ok((count, value))
    }

    fn mint(&mut self, id: u8, locator: &str) -> Result<PairingId, IdentityError> {
        self.mint_for(id, locator, limits::PAIRING_TTL_MS)
    }

    fn mint_for(&mut self, id: u8, locator: &str, ttl_ms: u64) -> Result<PairingId, IdentityError> {
        let minted = Minted {
            pairing: PairingId::from_bytes([id; 8]),
            locator: locator.to_owned(),
            method: CodeMethod::Pin,
            kind: Some(ClientKind::Node),
            name: None,
            ttl_ms,
            verifier: Verifier::new(vec![9; 192]),
        };
        self.run(|state, context| decide_mint(state, context, minted)).map(|_| PairingId::from_bytes([id; 8]))
    }

    fn attempt(&mut self, locator: &str) -> Result<PairingId, IdentityError> {
        self.run(|state, context| decide_attempt(state, context, locator, "[::1]:9", limits::PAIRING_STARTS_PER_MINUTE))
            .map(|(_, (pairing, _))| pairing)
    }

    fn ask(&mut self, pairing: PairingId, device: u8, kind: ClientKind) -> Result<RequestId, IdentityError> {
        let (name, public_key) = (DeviceName::new("box").unwrap(), Der::new([device; 44]));
        let device = DeviceId::from_bytes([device; 16]);
        let asked = Asked { pairing, device, kind, name: &name, public_key: &public_key, sas: "123456", peer: "p" };
        let seq = self.seq;
        let request = RequestId::from_bytes(seq.to_be_bytes());
        self.run(|state, context| decide_request(state, context, request, asked)).map(|(_, request)| request)
    }

    fn approve(&mut self, request: RequestId, sas: Option<&str>) -> Result<(usize, Approval), IdentityError> {
        self.approve_as(request, Approve { sas, replace: false })
    }

    fn approve_as(&mut self, request: RequestId, how: Approve<'_>) -> Result<(usize, Approval), IdentityError> {
        let mut sign = |issue: &Issue| Ok(Der::new(issue.serial.as_bytes().to_vec()));
        self.run(|state, context| decide_approve(state, context, request, how, &mut sign))
    }

    fn renew(&mut self, device: u8, shown: Serial) -> Result<Serial, IdentityError> {
        let mut sign = |issue: &Issue| Ok(Der::new(issue.serial.as_bytes().to_vec()));
        let key = Der::new([device; 44]);
        let renewal = Renewal::Device { device: DeviceId::from_bytes([device; 16]), shown, public_key: &key };
        self.run(|state, context| decide_issue(state, context, renewal, &mut sign)).map(|(_, serial)| serial)
    }

    /// Pairs a device; gives its certificate.
    fn pair(&mut self, device: u8) -> Serial {
        let locator = format!("l{}", self.seq);
        let pairing = self.mint(u8::try_from(self.seq % 256).unwrap(), &locator).unwrap();
        self.attempt(&locator).unwrap();
        let request = self.ask(pairing, device, ClientKind::Node).unwrap();
        self.approve(request, Some("123 456")).unwrap().1.issued.unwrap()
    }

    fn certificate(&self, counter: u64) -> Option<(Serial, CertificateRecord)> {
        let first = [&[state::CERTIFICATES, 1][..], &counter.to_be_bytes()].concat();
        let mut found = None;
        self.scan(&first, &crate::base::prefix_end(&first), &mut |key, value| {
            let serial = Serial::from_bytes(key[1..].try_into().unwrap());
            found = Some((serial, crate::event::codec::decode(value).unwrap()));
            ControlFlow::Break(())
        })
        .unwrap();
        found
    }

    fn device(&self, device: u8) -> Option<DeviceRecord> {
        find_device(self, DeviceId::from_bytes([device; 16])).unwrap()
    }
}

#[test]
fn a_code_pairs_one_device_once() {
    let mut world = World::new();
    let pairing = world.mint(1, "ab").unwrap();
    assert_eq!(world.attempt("ab").unwrap(), pairing);
    let request = world.ask(pairing, 7, ClientKind::Node).unwrap();
    assert!(world.device(7).is_none(), "nobody is paired before a person said so");
    assert!(matches!(world.ask(pairing, 8, ClientKind::Node), Err(IdentityError::PairingUsed { .. })));
    assert!(matches!(world.attempt("ab"), Err(IdentityError::NoPairing)));
    assert!(matches!(world.approve(request, Some("654321")), Err(IdentityError::OtherSas(_))));
    let (events, approval) = world.approve(request, Some("123-456")).unwrap();
    assert_eq!(events, 3);
    assert!(approval.issued.is_some());
    assert_eq!(world.device(7).unwrap().certificate, approval.issued);
    let (events, again) = world.approve(request, None).unwrap();
    assert_eq!((events, again.issued), (0, None), "approving again changes nothing");
    assert!(matches!(
        world.run(|state, _| decide_deny(state, request, None)),
        Err(IdentityError::Answered { answer: "approved", .. })
    ));
    assert!(find_pairing(&world, pairing).unwrap().unwrap().verifier.is_none(), "a spent verifier is dropped");
}

#[test]
fn the_fourth_attempt_finds_the_code_burned() {
    let mut world = World::new();
    let pairing = world.mint(1, "ab").unwrap();
    for _ in 0..limits::PAIRING_ATTEMPTS_MAX {
        world.attempt("ab").unwrap();
    }
    let refused = world.attempt("ab").unwrap_err();
    assert!(matches!(refused, IdentityError::PairingEnded { cause: EndCause::Burned, .. }));
    assert_eq!(refused.cause(), Some(RefusalCause::CodeSpent));
    // The third attempt itself may still come through: it was counted before it was answered.
    world.ask(pairing, 7, ClientKind::Node).unwrap();
}

#[test]
fn a_code_ends_with_its_time() {
    let mut world = World::new();
    let pairing = world.mint(1, "ab").unwrap();
    world.now += limits::PAIRING_TTL_MS - 1;
    world.attempt("ab").unwrap();
    world.now += 1;
    for refused in [world.attempt("ab").unwrap_err(), world.ask(pairing, 7, ClientKind::Node).unwrap_err()] {
        assert_eq!(refused.cause(), Some(RefusalCause::CodeExpired));
    }
    world.mint(2, "ab").expect("the locator of a code that has ended is free");
    assert_eq!(counters(&world).unwrap().open_pairings, 1);
}

#[test]
fn a_code_lives_an_hour_at_most_and_the_refusal_says_so() {
    let mut world = World::new();
    for ttl_ms in [0, 60 * 60 * 1000 + 1] {
        assert!(matches!(world.mint_for(1, "ab", ttl_ms), Err(IdentityError::Ttl { max_s: 3600 })), "{ttl_ms} ms");
    }
    world.mint_for(1, "ab", 60 * 60 * 1000).unwrap();
}

#[test]
fn starts_are_limited_within_a_minute() {
    let mut world = World::new();
    let mut begun = 0;
    let refused = loop {
        let locator = format!("l{begun}");
        world.mint(u8::try_from(begun).unwrap(), &locator).unwrap();
        match world.attempt(&locator) {
            Ok(_) => begun += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(begun, limits::PAIRING_STARTS_PER_MINUTE);
    assert_eq!(refused.cause(), Some(RefusalCause::TooMany));
    world.now += limits::PAIRING_WINDOW_MS;
    world.attempt(&format!("l{begun}")).unwrap();
}

#[test]
fn open_codes_are_bounded() {
    let mut world = World::new();
    for id in 0..limits::PAIRINGS_OPEN_MAX {
        world.mint(u8::try_from(id).unwrap(), &format!("l{id}")).unwrap();
    }
    assert!(matches!(world.mint(200, "one more"), Err(IdentityError::TooManyPairings { .. })));
    world.run(|state, _| decide_end(state, PairingId::from_bytes([3; 8]), EndCause::Cancelled)).unwrap();
    world.mint(200, "one more").unwrap();
}

#[test]
fn a_device_of_another_kind_is_refused() {
    let mut world = World::new();
    let pairing = world.mint(1, "ab").unwrap();
    let refused = world.ask(pairing, 7, ClientKind::Desktop).unwrap_err();
    assert_eq!(refused.cause(), Some(RefusalCause::OtherKind));
}

#[test]
fn a_revoked_device_pairs_again_only_after_it_was_cleared() {
    let mut world = World::new();
    let first = world.pair(7);
    let second = world.renew(7, first).unwrap();
    let device = DeviceId::from_bytes([7; 16]);
    world.run(|state, context| decide_revoke(state, context.now, device)).unwrap();
    assert_eq!(world.run(|state, context| decide_revoke(state, context.now, device)).unwrap().0, 0);
    assert!(matches!(world.renew(7, second), Err(IdentityError::DeviceRevoked(_))));
    for serial in [first, second] {
        assert!(find_certificate(&world, serial).unwrap().unwrap().revoked.is_some());
    }
    let pairing = world.mint(99, "again").unwrap();
    assert!(matches!(world.ask(pairing, 7, ClientKind::Node), Err(IdentityError::DeviceRevoked(_))));
    assert!(matches!(world.run(|state, _| decide_remove(state, device)), Err(IdentityError::DeviceRevoked(_))));
    world.run(|state, _| decide_clear(state, device)).unwrap();
    assert!(matches!(world.renew(7, second), Err(IdentityError::DeviceRevoked(_))), "cleared is not paired");
    let third = world.pair(7);
    assert!(matches!(world.renew(7, second), Err(IdentityError::CertificateRevoked(_))));
    world.renew(7, third).unwrap();
}

#[test]
fn a_key_belongs_to_one_device() {
    let mut world = World::new();
    world.pair(7);
    let pairing = world.mint(99, "other").unwrap();
    let (name, key) = (DeviceName::new("thief").unwrap(), Der::new([7; 44]));
    let device = DeviceId::from_bytes([8; 16]);
    let asked =
        Asked { pairing, device, kind: ClientKind::Node, name: &name, public_key: &key, sas: "123456", peer: "p" };
    let refused =
        world.run(|state, context| decide_request(state, context, RequestId::from_bytes([1; 8]), asked)).unwrap_err();
    assert!(matches!(refused, IdentityError::KeyTaken(_)), "{refused}");
}

#[test]
fn a_certificate_renews_until_the_grace_is_over() {
    let mut world = World::new();
    let serial = world.pair(7);
    let cause = |world: &World, serial| find_certificate(world, serial).unwrap().unwrap().cause;
    world.now += limits::LEAF_LIFE_MS - 1;
    let renewed = world.renew(7, serial).unwrap();
    assert_eq!(cause(&world, renewed), IssueCause::Renewed);
    world.now += limits::LEAF_LIFE_MS + limits::RENEWAL_GRACE_MS - 1;
    let late = world.renew(7, renewed).unwrap();
    assert_eq!(cause(&world, late), IssueCause::RenewedInGrace);
    assert!(matches!(world.renew(7, serial), Err(IdentityError::GraceOver(_))));
    assert!(matches!(world.renew(8, late), Err(IdentityError::NoDevice(_))));
    let other = world.pair(9);
    assert!(matches!(world.renew(7, other), Err(IdentityError::NoCertificate(_))), "another's certificate");
}

#[test]
fn a_roll_goes_through_its_steps_in_order() {
    let mut world = World::new();
    let keyring = crate::crypto::Hash([0; 32]);
    let (certificate, not_after) = (|| Der::new([2]), Timestamp::from_millis(ROOT_END));
    let prepare =
        |generation| Event::CaPrepared(CaPrepared { generation, certificate: certificate(), not_after, keyring });
    let activate =
        |generation| Event::CaActivated(CaActivated { generation, table_generation: 2, rewrapped: 0, keyring });
    let taint = |generation| Event::CaTainted(CaTainted { generation });
    let revoke = |generation| Event::CaRevoked(CaRevoked { generation, keyring });
    for out_of_order in [prepare(3), activate(2), taint(1), revoke(1)] {
        assert!(world.fold(out_of_order).is_err());
    }
    let signer = |world: &World, generation| {
        let now = Timestamp::from_millis(world.now);
        plan_crl(world, now, generation).map(|(planned, _)| planned.generation)
    };
    world.fold(prepare(2)).unwrap();
    assert_eq!(authorities(&world).unwrap().trusted().len(), 2);
    assert_eq!([None, Some(1), Some(2)].map(|generation| signer(&world, generation).unwrap()), [1, 1, 2]);
    assert!(matches!(signer(&world, Some(3)), Err(IdentityError::NoAuthority)));
    assert!(world.fold(prepare(3)).is_err());
    world.fold(activate(2)).unwrap();
    assert_eq!(authorities(&world).unwrap().active().unwrap().generation, 2);
    assert!(world.fold(prepare(3)).is_err(), "one roll at a time");
    assert!(world.fold(revoke(1)).is_err());
    world.fold(taint(1)).unwrap();
    assert_eq!(authorities(&world).unwrap().trusted().len(), 2);
    world.fold(revoke(1)).unwrap();
    let left: Vec<u32> = authorities(&world).unwrap().trusted().iter().map(|record| record.generation).collect();
    assert_eq!(left, [2]);
    assert_eq!(signer(&world, None).unwrap(), 2);
    assert!(matches!(signer(&world, Some(1)), Err(IdentityError::NoAuthority)), "it is trusted no more");
    world.fold(prepare(3)).unwrap();
}

#[test]
fn an_address_is_kept_short_and_in_one_line() {
    assert_eq!(bounded("[::1]:9"), "[::1]:9");
    assert_eq!(bounded("a\r\n\u{1b}b"), "ab");
    let longest = bounded(&"\u{1f600}".repeat(200));
    assert_eq!(longest.len(), limits::PEER_MAX, "whatever its letters");
}

#[test]
fn what_a_tainted_key_signed_is_not_renewed_in_the_grace() {
    let mut world = World::new();
    let serial = world.pair(7);
    let keyring = crate::crypto::Hash([0; 32]);
    let not_after = Timestamp::from_millis(ROOT_END);
    let prepared = CaPrepared { generation: 2, certificate: Der::new([2]), not_after, keyring };
    world.fold(Event::CaPrepared(prepared)).unwrap();
    world.fold(Event::CaActivated(CaActivated { generation: 2, table_generation: 2, rewrapped: 0, keyring })).unwrap();
    world.fold(Event::CaTainted(CaTainted { generation: 1 })).unwrap();
    world.renew(7, serial).expect("it has not ended yet");
    world.now += limits::LEAF_LIFE_MS + 1;
    assert!(matches!(world.renew(7, serial), Err(IdentityError::GraceOver(_))));
}

#[test]
fn a_paired_identity_is_replaced_only_on_a_persons_word() {
    let mut world = World::new();
    let first = world.pair(7);
    let second = world.renew(7, first).unwrap();
    let thief = |world: &mut World, locator: &str| {
        let (pairing, name) =
            (world.mint(u8::try_from(world.seq).unwrap(), locator).unwrap(), DeviceName::new("thief"));
        let (name, public_key, device) = (name.unwrap(), Der::new([66; 44]), DeviceId::from_bytes([7; 16]));
        let kind = ClientKind::Node;
        let asked = Asked { pairing, device, kind, name: &name, public_key: &public_key, sas: "123456", peer: "p" };
        let request = RequestId::from_bytes(world.seq.to_be_bytes());
        world.run(|state, context| decide_request(state, context, request, asked)).unwrap().1
    };
    let request = thief(&mut world, "one");
    let record = find_request(&world, request).unwrap().unwrap();
    assert_eq!(replaced_by(&world, &record).unwrap().unwrap().name.as_str(), "box");
    let refused = world.approve(request, Some("123456")).unwrap_err();
    assert!(matches!(refused, IdentityError::Replaces { .. }), "{refused}");
    assert_eq!(world.device(7).unwrap().name.as_str(), "box");
    world.renew(7, second).expect("nothing happened to the device");
    // On a person's word the old pairing ends with all it holds, in the same batch.
    let now = Timestamp::from_millis(world.now);
    let trust = Trust::read(&world, now).unwrap();
    let (events, approval) = world.approve_as(request, Approve { sas: None, replace: true }).unwrap();
    assert_eq!(events, 3);
    assert_eq!(world.device(7).unwrap().name.as_str(), "thief");
    for serial in [first, second] {
        let record = find_certificate(&world, serial).unwrap().unwrap();
        assert!(record.revoked.is_some());
        assert!(matches!(world.renew(7, serial), Err(IdentityError::CertificateRevoked(_))));
        let device = DeviceId::from_bytes([7; 16]);
        assert_eq!(trust.check(device, serial, &record.fingerprint), Ok(()), "this view was read before");
        let trust = Trust::read(&world, now).unwrap();
        assert_eq!(trust.check(device, serial, &record.fingerprint), Err(RefusalCause::CertificateRevoked));
    }
    assert!(find_certificate(&world, approval.issued.unwrap()).unwrap().unwrap().revoked.is_none());
    // An event that replaces nobody, or replaces silently, does not fold.
    let mut paired = crate::event::identity::DevicePaired {
        device: DeviceId::from_bytes([7; 16]),
        kind: ClientKind::Node,
        name: DeviceName::new("x").unwrap(),
        public_key: Der::new([1]),
        replaces: false,
    };
    assert!(world.fold(Event::DevicePaired(paired.clone())).is_err());
    (paired.device, paired.replaces) = (DeviceId::from_bytes([9; 16]), true);
    assert!(world.fold(Event::DevicePaired(paired)).is_err());
}

#[test]
fn codes_and_requests_that_are_over_make_room() {
    let mut world = World::new();
    for id in 0..limits::PAIRINGS_OPEN_MAX {
        world.mint(u8::try_from(id).unwrap(), &format!("l{id}")).unwrap();
    }
    world.now += limits::PAIRING_TTL_MS;
    world.mint(200, "one more").expect("what is over is ended beside");
    assert_eq!(counters(&world).unwrap().open_pairings as usize, 64 - limits::SWEEP_BESIDE + 1);
    assert_eq!(world.run(decide_sweep).unwrap().1, 64 - limits::SWEEP_BESIDE);
    assert_eq!(world.run(decide_sweep).unwrap(), (0, 0), "and no event where nothing is over");
    assert_eq!(counters(&world).unwrap().open_pairings, 1);
    list_pairings(&world, &mut |_, record| {
        assert_eq!(record.verifier.is_some(), record.state == PairingState::Open, "no verifier outlives its code");
        ControlFlow::Continue(())
    })
    .unwrap();
    let mut requests = Vec::new();
    for id in 0..limits::REQUESTS_OPEN_MAX {
        let locator = format!("r{id}");
        let mut pairing = [1; 8];
        pairing[..4].copy_from_slice(&id.to_be_bytes());
        let minted = Minted {
            pairing: PairingId::from_bytes(pairing),
            locator,
            method: CodeMethod::Pin,
            kind: None,
            name: None,
            ttl_ms: limits::PAIRING_TTL_MS,
            verifier: Verifier::new(vec![9]),
        };
        world.run(|state, context| decide_mint(state, context, minted)).unwrap();
        requests.push(world.ask(PairingId::from_bytes(pairing), 9, ClientKind::Node).unwrap());
    }
    let pairing = world.mint(201, "full").unwrap();
    assert!(matches!(world.ask(pairing, 9, ClientKind::Node), Err(IdentityError::TooManyRequests { .. })));
    world.now += limits::REQUEST_TTL_MS;
    let pairing = world.mint(202, "later").unwrap();
    world.ask(pairing, 9, ClientKind::Node).expect("unanswered requests are ended beside");
    let first = find_request(&world, requests[0]).unwrap().unwrap();
    assert_eq!(first.state, RequestState::Expired);
    assert!(matches!(world.approve(requests[0], None), Err(IdentityError::RequestExpired(_))));
    assert!(matches!(
        world.run(|state, _| decide_deny(state, requests[0], None)),
        Err(IdentityError::RequestExpired(_))
    ));
    while world.run(decide_sweep).unwrap().1 > 0 {}
    assert_eq!(counters(&world).unwrap().open_requests, 1);
}

#[test]
fn a_spent_code_is_ended_once_its_last_attempt_had_its_time() {
    let mut world = World::new();
    let pairing = world.mint(1, "ab").unwrap();
    for _ in 0..limits::PAIRING_ATTEMPTS_MAX {
        world.attempt("ab").unwrap();
    }
    world.now += limits::PAIRING_SESSION_MS - 1;
    assert_eq!(world.run(decide_sweep).unwrap().1, 0, "the third attempt may still come through");
    world.now += 1;
    assert_eq!(world.run(decide_sweep).unwrap().1, 1);
    let state = find_pairing(&world, pairing).unwrap().unwrap().state;
    assert_eq!(state, PairingState::Ended(EndCause::Burned));
}

#[test]
fn what_is_over_leaves_the_state_after_a_week() {
    let mut world = World::new();
    for device in 1..=20 {
        world.pair(device);
        world.now += limits::PAIRING_WINDOW_MS;
    }
    let kept = |world: &World| {
        let (mut codes, mut requests) = (0, 0);
        let count = |what: &mut i32| {
            *what += 1;
            ControlFlow::Continue(())
        };
        list_pairings(world, &mut |_, _| count(&mut codes)).unwrap();
        list_requests(world, &mut |_, _| count(&mut requests)).unwrap();
        (codes, requests)
    };
    assert_eq!(kept(&world), (20, 20));
    world.now += limits::PAIRING_KEPT_MS;
    for device in 21..=40 {
        world.pair(device);
        world.now += limits::PAIRING_WINDOW_MS;
    }
    assert_eq!(kept(&world), (20, 20), "what was over for a week is gone, and what is younger is not");
    let mut over = 0;
    world
        .scan(&[0x2D], &[0x2E], &mut |_, _| {
            over += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(over, 40, "nor is anything left of it");
}

#[test]
fn a_revocation_is_kept_as_long_as_anybody_would_accept_the_certificate() {
    let mut world = World::new();
    let old = world.pair(1);
    world.run(|state, _| decide_revoke_certificate(state, old)).unwrap();
    let listed = |world: &World| {
        let (planned, revoked) = plan_crl(world, Timestamp::from_millis(world.now), None).unwrap();
        let mut stored = 0;
        revocations(world, &mut |_, _| {
            stored += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        (planned, revoked.into_iter().map(|(serial, _)| serial).collect::<Vec<_>>(), stored)
    };
    world.now += limits::LEAF_LIFE_MS + limits::RENEWAL_GRACE_MS;
    assert_eq!(listed(&world).1, [old], "to its last moment");
    world.now += 1;
    let (planned, on_list, stored) = listed(&world);
    assert_eq!((on_list.len(), stored), (0, 1));
    world.run(|state, _| decide_crl(state, planned)).unwrap();
    assert_eq!(listed(&world).2, 0, "the list that left it out took it from the state");
    assert!(find_certificate(&world, old).unwrap().unwrap().revoked.is_some(), "what is known of it stays");
}

#[test]
fn no_leaf_ends_after_its_root() {
    let mut world = World::new();
    world.now = ROOT_END - 1000;
    let serial = world.pair(7);
    assert_eq!(find_certificate(&world, serial).unwrap().unwrap().not_after.as_millis(), ROOT_END);
    world.now = ROOT_END;
    assert!(matches!(world.renew(7, serial), Err(IdentityError::RootEnded { generation: 1 })));
}

/// Whatever was ever issued, a live view holds what could still be shown, and tells of what matters alone.
#[test]
fn a_live_view_is_bounded_and_follows() {
    let mut world = World::new();
    let trust = Trust::read(&world, Timestamp::from_millis(world.now)).unwrap();
    let mut serial = world.pair(7);
    for _ in 0..30 {
        world.now += limits::LEAF_LIFE_MS / 2;
        let before: BTreeMap<_, _> = world.map.clone();
        serial = world.renew(7, serial).unwrap();
        let changed = world.map.iter().filter(|(key, value)| before.get(*key) != Some(value));
        let delta = changed.map(|(key, value)| (key.clone().into(), Some(value.clone().into()))).collect();
        trust.observe(&delta, Timestamp::from_millis(world.now));
    }
    let anew = Trust::read(&world, Timestamp::from_millis(world.now)).unwrap();
    assert_eq!(trust.certificates(), anew.certificates());
    assert!(trust.certificates() <= 17, "eight days of two a day");
    assert_eq!(*trust.watch().borrow(), 0, "a renewal is nobody's business");
    let print = find_certificate(&world, serial).unwrap().unwrap().fingerprint;
    assert_eq!(anew.check(DeviceId::from_bytes([7; 16]), serial, &print), Ok(()));
}

/// One step of the model: who, and what.
#[derive(Debug, Clone, Copy)]
enum Step {
    Pair(u8),
    Renew(u8),
    Revoke(u8),
    RevokeCertificate(u8),
    Clear(u8),
    Remove(u8),
    Wait(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let device = 1_u8..5;
    let step = prop_oneof![
        3 => device.clone().prop_map(Step::Pair),
        4 => device.clone().prop_map(Step::Renew),
        1 => device.clone().prop_map(Step::Revoke),
        1 => device.clone().prop_map(Step::RevokeCertificate),
        1 => device.clone().prop_map(Step::Clear),
        1 => device.prop_map(Step::Remove),
        1 => (1_u32..200_000_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the model knows of a device: whether it is trusted, and its newest certificate with its end.
type Known = BTreeMap<u8, (DeviceState, Option<(Serial, u64, bool)>)>;

fn try_pair(world: &mut World, device: u8) -> Result<Serial, IdentityError> {
    let locator = format!("l{}", world.seq);
    world.now += limits::PAIRING_WINDOW_MS;
    let pairing = PairingId::from_bytes(world.seq.to_le_bytes());
    let minted = Minted {
        pairing,
        locator: locator.clone(),
        method: CodeMethod::Qr,
        kind: None,
        name: None,
        ttl_ms: 1000,
        verifier: Verifier::new(vec![1]),
    };
    world.run(|state, context| decide_mint(state, context, minted))?;
    world.attempt(&locator)?;
    let request = match world.ask(pairing, device, ClientKind::Cli) {
        Ok(request) => request,
        Err(error) => {
            world.run(|state, _| decide_end(state, pairing, EndCause::Cancelled))?;
            return Err(error);
        }
    };
    world.approve_as(request, Approve { sas: None, replace: true }).map(|(_, approval)| approval.issued.unwrap())
}

fn step_model(world: &mut World, known: &mut Known, step: Step) {
    let id = |device: u8| DeviceId::from_bytes([device; 16]);
    match step {
        Step::Wait(ms) => world.now += u64::from(ms),
        Step::Pair(device) => {
            let refused = known.get(&device).is_some_and(|(state, _)| *state == DeviceState::Revoked);
            match try_pair(world, device) {
                Ok(serial) => {
                    assert!(!refused);
                    known
                        .insert(device, (DeviceState::Paired, Some((serial, world.now + limits::LEAF_LIFE_MS, false))));
                }
                Err(error) => assert!(refused, "{error}"),
            }
        }
        Step::Renew(device) => {
            let Some((state, Some((shown, end, revoked)))) = known.get(&device).copied() else { return };
            let allowed = state == DeviceState::Paired && !revoked && world.now < end + limits::RENEWAL_GRACE_MS;
            match world.renew(device, shown) {
                Ok(serial) => {
                    assert!(allowed);
                    known.insert(device, (state, Some((serial, world.now + limits::LEAF_LIFE_MS, false))));
                }
                Err(error) => assert!(!allowed, "{error}"),
            }
        }
        Step::Revoke(device) => {
            let done = world.run(|state, context| decide_revoke(state, context.now, id(device)));
            assert_eq!(done.is_ok(), known.contains_key(&device));
            if let Some((state, held)) = known.get_mut(&device)
                && *state == DeviceState::Paired
            {
                *state = DeviceState::Revoked;
                if let Some((_, end, revoked)) = held {
                    *revoked |= world.now <= *end + limits::RENEWAL_GRACE_MS;
                }
            }
        }
        Step::RevokeCertificate(device) => {
            if let Some((_, Some((serial, _, revoked)))) = known.get_mut(&device) {
                world.run(|state, _| decide_revoke_certificate(state, *serial)).unwrap();
                *revoked = true;
            }
        }
        Step::Clear(device) => {
            let done = world.run(|state, _| decide_clear(state, id(device)));
            let expected = known.get(&device).is_some_and(|(state, _)| *state != DeviceState::Paired);
            assert_eq!(done.is_ok(), expected);
            if expected {
                known.get_mut(&device).unwrap().0 = DeviceState::Cleared;
            }
        }
        Step::Remove(device) => {
            let done = world.run(|state, _| decide_remove(state, id(device)));
            let expected = known.get(&device).is_some_and(|(state, _)| *state != DeviceState::Revoked);
            assert_eq!(done.is_ok(), expected);
            if expected {
                known.remove(&device);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever people do, in whatever order: who is trusted is what a model of a few lines says.
    #[test]
    fn trust_is_what_the_model_says(steps in steps()) {
        let mut world = World::new();
        let mut known = Known::new();
        for step in steps {
            step_model(&mut world, &mut known, step);
            let mut listed = BTreeMap::new();
            list_devices(&world, &mut |device, record| {
                listed.insert(device.as_bytes()[0], record.state);
                ControlFlow::Continue(())
            }).unwrap();
            let expected: BTreeMap<u8, DeviceState> = known.iter().map(|(device, (state, _))| (*device, *state)).collect();
            prop_assert_eq!(&listed, &expected);
            prop_assert_eq!(counters(&world).unwrap().devices, known.len() as u64);
            prop_assert_eq!(counters(&world).unwrap().open_pairings, 0);
            let mut on_list = BTreeMap::new();
            revocations(&world, &mut |serial, entry| {
                let record = find_certificate(&world, serial).unwrap().unwrap();
                assert_eq!((record.revoked, record.not_after), (Some(entry.time), entry.not_after));
                on_list.insert(serial, entry);
                ControlFlow::Continue(())
            }).unwrap();
            let trust = Trust::read(&world, Timestamp::from_millis(world.now)).unwrap();
            let mut revoked = 0;
            for counter in 0..counters(&world).unwrap().next_serial {
                let Some((serial, record)) = world.certificate(counter) else { continue };
                revoked += u64::from(record.revoked.is_some());
                let about = world.now <= record.not_after.as_millis() + limits::RENEWAL_GRACE_MS;
                // Whoever could still be shown and was revoked stands on the list.
                prop_assert!(!about || record.revoked.is_some() == on_list.contains_key(&serial));
                let Subject::Device(device) = record.subject else { continue };
                let good = trust.check(device, serial, &record.fingerprint).is_ok();
                prop_assert_eq!(good, about && record.revoked.is_none(), "{} {}", device, serial);
            }
            prop_assert_eq!(counters(&world).unwrap().revoked, revoked);
        }
    }
}
