//! The steps of the format: which release brought which kinds and schema versions. Each has a folder in
//! `migrations/` with its notes, its table of kinds and a store as it wrote them.

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its number, from 1.
    pub number: u16,
    /// Its name: with the number, that of its folder.
    pub name: &'static str,
    /// First and last kind number of a range, and the schema version in which this step began to write them.
    pub kinds: &'static [(u16, u16, u16)],
}

/// Every step, in order. A step is only ever added, with a folder of its own.
pub const STEPS: &[Step] = &[
    Step { number: 1, name: "first-format", kinds: &[(1, 15, 1), (32, 37, 1)] },
    Step { number: 2, name: "device-trust", kinds: &[(64, 89, 1)] },
    Step { number: 3, name: "service-credentials", kinds: &[(96, 107, 1)] },
    Step { number: 4, name: "secret-references", kinds: &[(38, 38, 1)] },
    Step { number: 5, name: "storage-backends", kinds: &[(39, 43, 1)] },
    Step { number: 6, name: "checkpoints", kinds: &[(16, 19, 1)] },
    Step { number: 7, name: "compromise", kinds: &[(20, 21, 1)] },
    Step { number: 8, name: "schema-versions", kinds: &[(15, 15, 2), (32, 32, 2), (78, 78, 2), (102, 102, 2)] },
    Step { number: 9, name: "imports", kinds: &[(22, 22, 1), (44, 45, 1), (90, 91, 1), (108, 108, 1)] },
    Step { number: 10, name: "backups", kinds: &[(23, 24, 1)] },
    Step { number: 11, name: "import-times", kinds: &[(108, 108, 2)] },
];

/// The step that brought a kind in a schema version; nothing where this program knows of none.
#[must_use]
pub fn step_of(kind: u16, schema: u16) -> Option<&'static Step> {
    let brought = |range: &&(u16, u16, u16)| (range.0..=range.1).contains(&kind) && range.2 == schema;
    STEPS.iter().find(|step| step.kinds.iter().any(|range| brought(&range)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Kind, check_known};

    #[test]
    fn every_kind_and_schema_version_came_with_one_step_and_no_other() {
        for kind in 0..=256 {
            for schema in 0..=4 {
                let brought: Vec<u16> = STEPS
                    .iter()
                    .filter(|step| {
                        step.kinds.iter().any(|(from, to, of)| (*from..=*to).contains(&kind) && *of == schema)
                    })
                    .map(|step| step.number)
                    .collect();
                assert_eq!(brought.len(), usize::from(check_known(kind, schema).is_ok()), "{kind} schema {schema}");
            }
        }
        assert!(STEPS.iter().map(|step| step.number).eq(1..=STEPS.len() as u16));
        let newest =
            Kind::ALL.iter().filter_map(|kind| step_of(kind.number(), kind.schema())).max_by_key(|step| step.number);
        assert_eq!(newest, STEPS.last());
    }
}
