use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

fn hex(text: &str) -> Hash {
    text.parse().unwrap()
}

/// The leaves that the tests of Certificate Transparency have always used.
fn known_leaves() -> Vec<Hash> {
    let data = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let bytes = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    data.iter().map(|text| Hash(Sha256::new().chain_update([0]).chain_update(bytes(text)).finalize().into())).collect()
}

fn root_of(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// The definition of RFC 6962, as it stands there.
fn by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash(Sha256::digest([]).into()),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(usize::try_from(split(more.len() as u64)).unwrap());
            node(&by_definition(left), &by_definition(right))
        }
    }
}

fn prove(leaves: &[Hash], ranges: Vec<Range<u64>>) -> Vec<Hash> {
    let mut roots = RangeRoots::new(ranges);
    for (index, leaf) in (0..).zip(leaves) {
        roots.push(index, *leaf);
    }
    roots.finish().unwrap()
}

fn numbered(count: u64) -> Vec<Hash> {
    (0..count).map(|number| leaf(&Hash::of("test leaf", &[&number.to_le_bytes()]))).collect()
}

#[test]
fn roots_are_those_of_certificate_transparency() {
    let leaves = known_leaves();
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    for (count, root) in roots.iter().enumerate() {
        assert_eq!(root_of(&leaves[..count]), hex(root), "{count}");
    }
}

#[test]
fn proofs_are_those_of_certificate_transparency() {
    let leaves = known_leaves();
    let inclusion = prove(&leaves[..8], inclusion_ranges(5, 8).unwrap());
    assert_eq!(
        inclusion,
        [
            hex("bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"),
            hex("ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"),
            hex("d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
        ]
    );
    let consistency = prove(&leaves[..8], consistency_ranges(6, 8).unwrap());
    assert_eq!(
        consistency,
        [
            hex("0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"),
            hex("ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"),
            hex("d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
        ]
    );
}

#[test]
fn every_small_tree_is_its_definition_and_its_frontier_goes_on() {
    let leaves = numbered(70);
    for count in 0..leaves.len() {
        assert_eq!(root_of(&leaves[..count]), by_definition(&leaves[..count]), "{count}");
        let mut frontier = Frontier::default();
        for leaf in &leaves[..count] {
            frontier.push(*leaf);
        }
        let kept = Frontier::from_parts(count as u64, frontier.nodes().to_vec()).unwrap();
        assert_eq!(kept, frontier);
        let mut goes_on = kept;
        for leaf in &leaves[count..] {
            goes_on.push(*leaf);
        }
        assert_eq!(goes_on.root(), root_of(&leaves), "{count}");
        assert!(Frontier::from_parts(count as u64 + 1, vec![leaves[0]; 9]).is_none());
    }
}

#[test]
fn every_small_proof_holds_and_no_wrong_one_does() {
    let leaves = numbered(20);
    for size in 1..=20_usize {
        let tree = &leaves[..size];
        let root = root_of(tree);
        for index in 0..size {
            let (at, of) = (index as u64, size as u64);
            let proof = prove(tree, inclusion_ranges(at, of).unwrap());
            assert!(verify_inclusion(at, of, &tree[index], &proof, &root), "{index} of {size}");
            for other in (0..size).filter(|other| *other != index) {
                assert!(!verify_inclusion(other as u64, of, &tree[index], &proof, &root), "{index} as {other}");
            }
            assert!(!verify_inclusion(at, of, &leaf(&root), &proof, &root));
        }
        for before in 1..=size {
            let (old, at, of) = (root_of(&leaves[..before]), before as u64, size as u64);
            let proof = prove(tree, consistency_ranges(at, of).unwrap());
            assert!(verify_consistency(at, &old, of, &root, &proof), "{before} to {size}");
            assert!(!verify_consistency(at, &leaf(&old), of, &root, &proof));
            assert!(!verify_consistency(at, &old, of, &leaf(&root), &proof));
        }
        assert!(inclusion_ranges(size as u64, size as u64).is_none());
        assert!(consistency_ranges(size as u64 + 1, size as u64).is_none());
        assert!(consistency_ranges(0, size as u64).is_none());
    }
}

proptest! {
    #[test]
    fn proofs_hold_and_a_changed_one_does_not(size in 1_u64..600, at in 0_u64..600, before in 1_u64..=600, bit in 0_usize..20_000) {
        let (index, before) = (at % size, 1 + before % size);
        let leaves = numbered(size);
        let root = root_of(&leaves);
        let old = root_of(&leaves[..usize::try_from(before).unwrap()]);
        let here = &leaves[usize::try_from(index).unwrap()];
        let inclusion = prove(&leaves, inclusion_ranges(index, size).unwrap());
        let consistency = prove(&leaves, consistency_ranges(before, size).unwrap());
        prop_assert!(verify_inclusion(index, size, here, &inclusion, &root));
        prop_assert!(verify_consistency(before, &old, size, &root, &consistency));
        let flip = |proof: &[Hash]| -> Vec<Hash> {
            let mut wrong = proof.to_vec();
            let at = bit % (proof.len() * 256);
            wrong[at / 256].0[at % 256 / 8] ^= 1 << (at % 8);
            wrong
        };
        if !inclusion.is_empty() {
            prop_assert!(!verify_inclusion(index, size, here, &flip(&inclusion), &root));
            prop_assert!(!verify_inclusion(index, size, here, &inclusion[1..], &root));
        }
        if !consistency.is_empty() {
            prop_assert!(!verify_consistency(before, &old, size, &root, &flip(&consistency)));
            prop_assert!(!verify_consistency(before, &old, size, &root, &consistency[1..]));
        }
    }
}

/// How long the tree of a large log takes; run by hand, with `--release` for a figure.
#[test]
#[ignore = "a measurement, not a check"]
#[allow(clippy::print_stderr)]
fn a_million_leaves() {
    let leaves: Vec<Hash> = (0..1_000_000_u64).map(|number| Hash::of("test leaf", &[&number.to_le_bytes()])).collect();
    #[allow(clippy::disallowed_methods)]
    let begun = std::time::Instant::now();
    let mut frontier = Frontier::default();
    for one in &leaves {
        frontier.push(leaf(one));
    }
    eprintln!("{} in {:?}", frontier.root(), begun.elapsed());
}
