//! What it costs that a secret is named by a reference.

use palyra_ledger::resolve::{Bound, SecretResolver};
use palyra_ledger::{Actor, Caller, Scope, SecretPath, SecretRef};

use crate::homes::{self, VALUE_BYTES};
use crate::material::{Pool, name};
use crate::race::{Lane, race, rate};
use crate::report::{Section, figure, ratio};
use crate::{Fault, Plan};

/// Gets of random secrets beside resolutions of references to them: one ledger, one thread, one caller.
pub fn resolve(plan: &Plan) -> Result<Section, Fault> {
    let ledger = homes::open(&homes::loaded(plan, plan.few)?)?;
    let pool = Pool::new()?;
    let caller = Caller::library(Actor::new("bench")?);
    let vault = ledger.vault(Scope::global()).for_caller(caller.clone());
    let resolver = SecretResolver::new(&ledger, caller, Bound::Scope(Scope::global()));
    let references: Vec<SecretRef> = (0..plan.few)
        .map(|number| Ok(SecretPath { scope: Scope::global(), name: name(number)? }.into()))
        .collect::<Result<_, Fault>>()?;
    let names = references.iter().enumerate().map(|(number, _)| name(u32::try_from(number)?));
    let names = names.collect::<Result<Vec<_>, Fault>>()?;
    let draw = || usize::try_from(pool.below(plan.few)).unwrap_or(0);
    let wrong = || Fault::from("a value of another length came back");
    let get = |slice| {
        let one = || {
            let name = names.get(draw()).ok_or_else(wrong)?;
            if vault.get(name)?.value.len() == VALUE_BYTES { Ok(()) } else { Err(wrong()) }
        };
        rate(slice, || (0..16).try_for_each(|_| one())).map(|rate| rate * 16.0)
    };
    let resolve = |slice| {
        let one = || {
            let reference = references.get(draw()).ok_or_else(wrong)?;
            let value = resolver.resolve(reference)?.value;
            if value.is_some_and(|value| value.len() == VALUE_BYTES) { Ok(()) } else { Err(wrong()) }
        };
        rate(slice, || (0..16).try_for_each(|_| one())).map(|rate| rate * 16.0)
    };
    let mut lanes = [Lane::new("get", get), Lane::new("resolve", resolve)];
    let rates = race(&mut lanes, plan.rounds, plan.slice)?;
    drop(lanes);
    ledger.close()?;
    let note = format!(
        "One thread, {} secrets drawn at random. A resolution is a get with two fingerprints and a second note in the \
         record.",
        figure(f64::from(plan.few))
    );
    let mut section =
        Section::new("Resolving a reference", note, &["", "per second (median)", "cost by that of a get"]);
    if let [get, resolve] = rates.as_slice() {
        section.row(&[get.name.clone(), figure(get.median()), ratio(1.0)]);
        let (least, most) = get.ratio_range(resolve);
        let cost = format!("{} ({} to {})", ratio(get.ratio(resolve)), ratio(least), ratio(most));
        section.row(&[resolve.name.clone(), figure(resolve.median()), cost]);
        section.at_most("cost of resolving a vault reference by that of a get", 1.2, get.ratio(resolve));
    }
    Ok(section)
}
