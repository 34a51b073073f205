//! The peers, on the same replayer: each acknowledges a put when its own interface says that it is durable.

use std::path::Path;

use redb::{Durability, ReadableDatabase, TableDefinition};

use super::record::say;
use super::subject::{Subject, Verdict};
use crate::Fault;

/// Puts of each peer.
const PUTS: u32 = 20;
/// Bytes of each.
const LEN: usize = 200;

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");

/// What is recorded of the peers.
pub const SUBJECTS: &[Subject] = &[
    peer("sqlite-wal-full", "SQLite, WAL, synchronous=FULL", sqlite_wal, sqlite_check),
    peer("sqlite-delete-full", "SQLite, rollback journal, synchronous=FULL", sqlite_delete, sqlite_check),
    peer("redb", "redb, Durability::Immediate", redb_work, redb_check),
    peer("fjall", "fjall, PersistMode::SyncAll", fjall_work, fjall_check),
    peer("sled", "sled alone, flush after each", sled_work, sled_check),
];

const fn peer(
    name: &'static str,
    what: &'static str,
    work: fn(&Path, u64) -> Result<(), Fault>,
    check: fn(&Path, &[String]) -> Verdict,
) -> Subject {
    Subject { name, what, prepare: |_, _| Ok(Vec::new()), work, recover: |_| Ok(()), check }
}

fn key(number: u32) -> String {
    format!("key{number:04}")
}

fn value(number: u32) -> Vec<u8> {
    format!("value {number} ").into_bytes().into_iter().cycle().take(LEN).collect()
}

/// Says that the store is made, then that each put is durable. The folder in which the store lies is synced here:
/// most peers leave that to the program.
fn puts(root: &Path, put: &mut dyn FnMut(&str, &[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    std::fs::File::open(root)?.sync_all()?;
    say("ack 0 ready")?;
    for number in 0..PUTS {
        put(&key(number), &value(number))?;
        say(&format!("ack 0 {number}"))?;
    }
    Ok(())
}

/// Opens, and looks for every put that was acknowledged.
fn look<'a>(
    said: &[String],
    open: impl FnOnce() -> Result<Box<dyn Fn(&str) -> Result<Option<Vec<u8>>, Fault> + 'a>, Fault>,
) -> Verdict {
    let get = match open() {
        Ok(get) => get,
        Err(fault) => return Verdict::Unopened(fault.to_string()),
    };
    for number in said.iter().filter_map(|line| line.strip_prefix("ack 0 ")?.parse::<u32>().ok()) {
        match get(&key(number)) {
            Ok(Some(found)) if found == value(number) => {}
            Ok(found) => return Verdict::Lost(format!("put {number}: {:?}", found.map(|bytes| bytes.len()))),
            Err(fault) => return Verdict::Lost(format!("put {number}: {fault}")),
        }
    }
    Verdict::Good
}

/// In exclusive mode the index of the write-ahead log lies in memory. Otherwise it is a mapped file, which SQLite
/// makes anew after a crash.
fn sqlite(root: &Path, mode: &str) -> Result<rusqlite::Connection, Fault> {
    let db = rusqlite::Connection::open(root.join("db"))?;
    if mode == "wal" {
        db.pragma_update(None, "locking_mode", "exclusive")?;
    }
    db.pragma_update(None, "journal_mode", mode)?;
    db.pragma_update(None, "synchronous", "full")?;
    db.execute_batch("CREATE TABLE IF NOT EXISTS kv (k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID")?;
    Ok(db)
}

fn sqlite_puts(root: &Path, mode: &str) -> Result<(), Fault> {
    let db = sqlite(root, mode)?;
    puts(root, &mut |key, value| {
        db.execute("INSERT INTO kv VALUES (?1, ?2)", rusqlite::params![key, value])?;
        Ok(())
    })
}

fn sqlite_wal(root: &Path, _: u64) -> Result<(), Fault> {
    sqlite_puts(root, "wal")
}

fn sqlite_delete(root: &Path, _: u64) -> Result<(), Fault> {
    sqlite_puts(root, "delete")
}

fn sqlite_check(root: &Path, said: &[String]) -> Verdict {
    look(said, || {
        let db = rusqlite::Connection::open(root.join("db"))?;
        db.pragma_update(None, "locking_mode", "exclusive")?;
        let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(format!("integrity_check: {sound}").into());
        }
        let get = move |key: &str| {
            use rusqlite::OptionalExtension;
            Ok(db.query_row("SELECT v FROM kv WHERE k = ?1", [key], |row| row.get(0)).optional()?)
        };
        Ok(Box::new(get))
    })
}

fn redb_work(root: &Path, _: u64) -> Result<(), Fault> {
    let db = redb::Database::create(root.join("db"))?;
    let put = |key: Option<(&str, &[u8])>| -> Result<(), Fault> {
        let mut transaction = db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(ROWS)?;
            if let Some((key, value)) = key {
                table.insert(key, value)?;
            }
        }
        Ok(transaction.commit()?)
    };
    put(None)?;
    puts(root, &mut |key, value| put(Some((key, value))))
}

fn redb_check(root: &Path, said: &[String]) -> Verdict {
    look(said, || {
        let db = redb::Database::create(root.join("db"))?;
        Ok(Box::new(move |key: &str| {
            let transaction = db.begin_read()?;
            let table = match transaction.open_table(ROWS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                other => other?,
            };
            Ok(table.get(key)?.map(|found| found.value().to_vec()))
        }))
    })
}

fn fjall_open(root: &Path) -> Result<(fjall::Database, fjall::Keyspace), Fault> {
    let db = fjall::Database::builder(root.join("db")).open()?;
    let rows = db.keyspace("rows", fjall::KeyspaceCreateOptions::default)?;
    Ok((db, rows))
}

fn fjall_work(root: &Path, _: u64) -> Result<(), Fault> {
    let (db, rows) = fjall_open(root)?;
    db.persist(fjall::PersistMode::SyncAll)?;
    puts(root, &mut |key, value| {
        rows.insert(key, value)?;
        Ok(db.persist(fjall::PersistMode::SyncAll)?)
    })
}

fn fjall_check(root: &Path, said: &[String]) -> Verdict {
    look(said, || {
        let (db, rows) = fjall_open(root)?;
        Ok(Box::new(move |key: &str| {
            let _held = &db;
            Ok(rows.get(key)?.map(|found| found.to_vec()))
        }))
    })
}

fn sled_open(root: &Path) -> Result<sled::Db, Fault> {
    Ok(sled::Config::new().path(root.join("db")).flush_every_ms(None).cache_capacity(16 << 20).open()?)
}

fn sled_work(root: &Path, _: u64) -> Result<(), Fault> {
    let db = sled_open(root)?;
    db.flush()?;
    puts(root, &mut |key, value| {
        db.insert(key, value)?;
        db.flush()?;
        Ok(())
    })
}

fn sled_check(root: &Path, said: &[String]) -> Verdict {
    look(said, || {
        let db = sled_open(root)?;
        Ok(Box::new(move |key: &str| Ok(db.get(key)?.map(|found| found.to_vec()))))
    })
}
