//! The peers. Each makes every put durable before it returns.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use palyra_ledger::SecretName;
use palyra_ledger::crypto::Hash;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use rusqlite::{Connection, OptionalExtension, params};

use crate::Fault;
use crate::group::Commit;
use crate::material::Sealed;

/// A file that is appended to and synced with `fdatasync`.
#[derive(Debug)]
pub struct Raw(File);

impl Raw {
    /// A new file.
    pub fn create(path: &Path) -> Result<Self, Fault> {
        Ok(Self(OpenOptions::new().append(true).create_new(true).open(path)?))
    }

    /// Appends.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.0.write_all(bytes)?;
        Ok(self.0.sync_data()?)
    }
}

impl Commit<Vec<u8>> for Raw {
    fn commit(&mut self, items: Vec<Vec<u8>>) -> Result<(), Fault> {
        self.put(&items.concat())
    }
}

/// SQLite in WAL mode with `synchronous=FULL`: a sync for every transaction.
#[derive(Debug)]
pub struct Sqlite {
    db: Connection,
    prev: Hash,
}

impl Sqlite {
    /// A new database.
    pub fn create(path: &Path) -> Result<Self, Fault> {
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "wal")?;
        db.pragma_update(None, "synchronous", "full")?;
        let mode: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        let full: u32 = db.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        if mode != "wal" || full != 2 {
            return Err(format!("SQLite runs with journal_mode {mode} and synchronous {full}").into());
        }
        db.execute_batch(
            "CREATE TABLE plain (name TEXT, version INTEGER, value BLOB, PRIMARY KEY (name, version)) WITHOUT ROWID;
             CREATE TABLE sealed (name TEXT, version INTEGER, envelope BLOB, hash BLOB, PRIMARY KEY (name, version))
                WITHOUT ROWID;",
        )?;
        Ok(Self { db, prev: Hash([0; 32]) })
    }

    /// Stores a plain row under the next version.
    pub fn put_plain(&mut self, name: &SecretName, value: &[u8]) -> Result<(), Fault> {
        let transaction = self.db.transaction()?;
        let version = next_version(&transaction, "SELECT max(version) FROM plain WHERE name = ?1", name)?;
        transaction.prepare_cached("INSERT INTO plain VALUES (?1, ?2, ?3)")?.execute(params![
            name.as_str(),
            version,
            value
        ])?;
        Ok(transaction.commit()?)
    }

    /// Seals a value and stores the envelope under the next version, chained.
    pub fn put_sealed(&mut self, sealed: &Sealed, name: &SecretName, value: &[u8]) -> Result<(), Fault> {
        let transaction = self.db.transaction()?;
        let version = next_version(&transaction, "SELECT max(version) FROM sealed WHERE name = ?1", name)?;
        let envelope = sealed.envelope(name, version, value)?;
        let hash = sealed.chain(&self.prev, name, version, &envelope);
        insert_sealed(&transaction, name, version, &envelope, &hash)?;
        transaction.commit()?;
        self.prev = hash;
        Ok(())
    }
}

fn next_version(db: &Connection, question: &str, name: &SecretName) -> Result<u32, Fault> {
    let last: Option<Option<u32>> =
        db.prepare_cached(question)?.query_row([name.as_str()], |row| row.get(0)).optional()?;
    Ok(last.flatten().unwrap_or(0) + 1)
}

fn insert_sealed(db: &Connection, name: &SecretName, version: u32, envelope: &[u8], hash: &Hash) -> Result<(), Fault> {
    db.prepare_cached("INSERT INTO sealed VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        name.as_str(),
        version,
        envelope,
        hash.as_bytes()
    ])?;
    Ok(())
}

/// An envelope that waits for its group.
#[derive(Debug)]
pub struct Waiting {
    /// Whose.
    pub name: SecretName,
    /// Sealed on the caller's own thread.
    pub envelope: Vec<u8>,
}

/// The sealed store behind group commit: one transaction a group.
#[derive(Debug)]
pub struct SealedGroups {
    /// The database.
    pub sqlite: Sqlite,
    /// Hashes the chain.
    pub sealed: Sealed,
}

impl Commit<Waiting> for SealedGroups {
    fn commit(&mut self, items: Vec<Waiting>) -> Result<(), Fault> {
        let transaction = self.sqlite.db.transaction()?;
        let mut prev = self.sqlite.prev;
        for Waiting { name, envelope } in &items {
            let version = next_version(&transaction, "SELECT max(version) FROM sealed WHERE name = ?1", name)?;
            prev = self.sealed.chain(&prev, name, version, envelope);
            insert_sealed(&transaction, name, version, envelope, &prev)?;
        }
        transaction.commit()?;
        self.sqlite.prev = prev;
        Ok(())
    }
}

const ROWS: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("plain");

/// redb with durability `Immediate`.
#[derive(Debug)]
pub struct Redb(Database);

impl Redb {
    /// A new database.
    pub fn create(path: &Path) -> Result<Self, Fault> {
        Ok(Self(Database::create(path)?))
    }

    /// Stores a plain row.
    pub fn put(&self, name: &SecretName, version: u32, value: &[u8]) -> Result<(), Fault> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.open_table(ROWS)?.insert((name.as_str(), version), value)?;
        Ok(transaction.commit()?)
    }

    /// Rows.
    pub fn rows(&self) -> Result<u64, Fault> {
        use redb::ReadableTableMetadata;
        Ok(self.0.begin_read()?.open_table(ROWS)?.len()?)
    }
}
