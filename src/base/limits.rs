//! Every bound of the program, each with its reason.
//!
//! A bound that is part of a format is marked "format": changing it needs a migration.

/// Longest secret name in bytes (format). Long enough for `team/service/key` paths.
pub const NAME_MAX: usize = 128;
/// Longest scope segment in bytes (format), for example a principal or skill id.
pub const SCOPE_SEGMENT_MAX: usize = 256;
/// Default bound on a secret's value in bytes: certificates chains and service-account files fit.
pub const VALUE_MAX_DEFAULT: usize = 64 * 1024;
/// Highest value bound the configuration may set, in bytes. A frame must stay far below a segment.
pub const VALUE_MAX_CEILING: usize = 1024 * 1024;
/// Longest description in bytes: one paragraph, shown in tables.
pub const DESCRIPTION_MAX: usize = 1024;
/// Most labels on one secret, so that one index entry stays within a block.
pub const LABELS_MAX: usize = 32;
/// Longest label key in bytes.
pub const LABEL_KEY_MAX: usize = 64;
/// Longest label value in bytes.
pub const LABEL_VALUE_MAX: usize = 256;
/// Longest actor name in bytes: a user name, a device id or a service name.
pub const ACTOR_MAX: usize = 256;
/// Longest recorded reason in bytes.
pub const REASON_MAX: usize = 512;
/// Most versions of one secret. A rotation every minute for a century stays below it.
pub const VERSIONS_MAX: u32 = 100_000_000;

/// Largest sealed body of a frame in bytes (format): the value ceiling and its event around it.
pub const BODY_MAX: usize = VALUE_MAX_CEILING + 64 * 1024;
/// Most events in one batch (format: a 16-bit count).
pub const BATCH_EVENTS_MAX: usize = 4096;
/// Size in bytes at which a journal segment is closed and the next one begun.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// Smallest segment size the configuration may set, in bytes; small ones are for tests.
pub const SEGMENT_BYTES_MIN: u64 = 4 * 1024;
/// Largest segment in bytes (format: offsets within a segment are 32-bit).
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Most bytes one group commit gathers before it syncs, so that latency and memory stay bounded.
pub const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes of commands waiting for a sync before callers are held back.
pub const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A clock further behind the last event than this, in milliseconds, is recorded as an event.
pub const CLOCK_SKEW_TOLERANCE_MS: u64 = 1_000;

/// Most key slots: each is an independent way in, and each must be found again by a person.
pub const KEY_SLOTS_MAX: usize = 16;
/// Most epoch keys: one a day for two centuries.
pub const EPOCHS_MAX: usize = 73_000;
/// Longest passphrase in bytes; Argon2 would take more, a prompt should not.
pub const PASSPHRASE_MAX: usize = 1024;
/// Shortest passphrase in bytes that a new slot accepts.
pub const PASSPHRASE_MIN: usize = 8;
/// Largest key ring file in bytes that is read.
pub const KEYRING_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Fresh DEK slots written at a time: two syncs are shared by this many puts.
pub const KEY_TABLE_FILL: usize = 512;
/// Most fresh DEK slots written at a time when puts are fast.
pub const KEY_TABLE_FILL_MAX: usize = 8192;

/// Largest `config.toml` in bytes that is read.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// Longest id of a profile, agent or custom provider in bytes.
pub const PROFILE_ID_MAX: usize = 128;
/// Longest name of a profile, client id or scope of a grant in bytes.
pub const PROFILE_TEXT_MAX: usize = 256;
/// Longest URL of an endpoint in bytes.
pub const ENDPOINT_MAX: usize = 2048;
/// Most scopes of one grant.
pub const GRANT_SCOPES_MAX: usize = 64;
/// Most credential profiles: twice what the old system held, and still chosen from in memory.
pub const PROFILES_MAX: u32 = 8192;
/// Most profiles in one order: the record fits one value of the index with ids at their longest.
pub const ORDER_MAX: usize = 256;
/// Longest of the two documents in bytes that is read: every profile at its longest is far below.
pub const DOCUMENT_MAX: u64 = 32 * 1024 * 1024;
/// How long before its end a token is refreshed, in milliseconds.
pub const REFRESH_WINDOW_MS: u64 = 300_000;
/// How long nobody else refreshes a profile, in milliseconds: longer than a refresh may take.
pub const REFRESH_LEASE_MS: u64 = 60_000;
/// How long the token endpoint may take altogether, in milliseconds.
pub const TOKEN_REQUEST_MS: u64 = 30_000;
/// How long a connection to a token endpoint is kept for another request, in milliseconds: its buffers hold what was
/// said on it, and a round of refreshes follows at once or not at all.
pub const TOKEN_IDLE_MS: u64 = 1_000;
/// Longest answer of a token endpoint in bytes.
pub const TOKEN_ANSWER_MAX: usize = 64 * 1024;
/// Longest life of a token that is believed, in seconds: ten years.
pub const TOKEN_LIFE_MAX_S: u64 = 10 * 365 * 24 * 3600;
/// Transient failures in a row after which a profile is benched.
pub const BREAKER_THRESHOLD: u32 = 3;
/// How long one caller tries a profile after its bench before another may, in milliseconds.
pub const PROBE_MS: u64 = 30_000;
/// Longest time in milliseconds that a usage report waits to be recorded: the stated loss window.
pub const USAGE_WINDOW_MS: u64 = 1_000;
/// How often the daemon looks for tokens that are due, in milliseconds.
pub const REFRESH_TICK_MS: u64 = 5_000;
/// Least time between two refreshes of a profile that nobody forces, in milliseconds: a token that hardly
/// lives must not keep its provider busy.
pub const REFRESH_SPACING_MS: u64 = 10_000;
/// How long a stopping daemon waits for refreshes that were sent, in milliseconds: as long as their endpoint
/// may take, since the answer may hold the only token there is.
pub const REFRESH_DRAIN_MS: u64 = TOKEN_REQUEST_MS + 5_000;
/// Failovers that wait to be recorded at most; more of them say nothing new.
pub const FAILOVERS_MAX: usize = 1024;
/// Refreshes under way at once.
pub const REFRESHES_AT_ONCE: usize = 64;
/// Answers that are queued before they are waited for: at their longest they stay below half of the queue.
pub const REFRESHES_QUEUED_MAX: usize = 64;

/// Largest read spool in bytes before a reader must wait for a writer to fold it in.
pub const SPOOL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most distinct reads kept in memory before they are recorded as one event.
pub const READS_BATCH_MAX: usize = 2048;
/// Longest time in milliseconds that a batched read waits to be recorded: the stated loss window.
pub const READS_WINDOW_MS: u64 = 1_000;

/// Most resolutions in one event: with the longest names they stay well within a body.
pub const RESOLUTIONS_EVENT_MAX: usize = 1024;

/// Index entries kept in memory before they are written as a run.
pub const MEMTABLE_ENTRIES_MAX: usize = 32 * 1024;
/// Bytes of index entries kept in memory before they are written as a run.
pub const MEMTABLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Events that may follow the last index run at a clean close: the next open folds them in.
pub const INDEX_TAIL_AT_CLOSE: u64 = 256;
/// Most snapshots of the state that are kept beside the index: half the log is then at most about an eighth
/// of it away from one.
pub const SNAPSHOTS_MAX: usize = 16;
/// Fewest events between two snapshots: folding fewer takes less time than reading a snapshot does.
pub const SNAPSHOT_EVENTS_MIN: u64 = 8192;
/// Share of the log's length that lies between two snapshots at least, so that a long log is not written
/// over and over: one in this many.
pub const SNAPSHOT_SPACING: u64 = 16;
/// Things to be done in one event about a compromise, so that its record fits into the index whatever the
/// names are.
pub const COMPROMISE_ITEMS_PER_EVENT: usize = 64;
/// Most things to be done about one compromise: its events are one batch.
pub const COMPROMISE_ITEMS_MAX: usize = COMPROMISE_ITEMS_PER_EVENT * 2048;
/// Bytes that snapshots may hold on disk beyond as much as the index itself has.
pub const SNAPSHOT_BYTES: u64 = 32 * 1024 * 1024;
/// Plain bytes of one sealed index block: small enough that one lookup opens little.
pub const INDEX_BLOCK_BYTES: usize = 1024;
/// Bytes of opened index blocks kept in memory.
pub const INDEX_CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Longest index key in bytes.
pub const INDEX_KEY_MAX: usize = 1024;
/// Largest index value in bytes: a secret's head with every label at its bound fits.
pub const INDEX_VALUE_MAX: usize = 64 * 1024;

/// Bytes of frames packed into one value of the sled log. sled moves a leaf above 131,020 bytes
/// to a blob file of its own, which it never syncs; values of this size stay clear of that.
pub const SLED_VALUE_BYTES: usize = 12 * 1024;
/// sled's page cache in bytes; it is a second copy, not the read path.
pub const SLED_CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Most frames that one step of the follower moves to sled.
pub const FOLLOW_STEP_FRAMES: u64 = 8192;

/// Default time in milliseconds that a command waits for another process.
pub const LOCK_WAIT_MS_DEFAULT: u64 = 5_000;

/// Longest device name in bytes: it stands in tables and on screens.
pub const DEVICE_NAME_MAX: usize = 128;
/// Longest peer address in an event, in bytes: an IPv6 address with its zone and port fits.
pub const PEER_MAX: usize = 128;
/// How long a pairing code is good for, in milliseconds: five minutes, as people walk between machines.
pub const PAIRING_TTL_MS: u64 = 5 * 60 * 1000;
/// Longest life of a pairing code that may be asked for, in milliseconds: an hour.
pub const PAIRING_TTL_MAX_MS: u64 = 60 * 60 * 1000;
/// Attempts that a pairing code survives: three guesses at a six-digit PIN are 3 in 1,000,000.
pub const PAIRING_ATTEMPTS_MAX: u8 = 3;
/// Codes that are open at once; each is a way in.
pub const PAIRINGS_OPEN_MAX: u32 = 64;
/// Window of the limit on pairing starts, in milliseconds.
pub const PAIRING_WINDOW_MS: u64 = 60 * 1000;
/// How long a request waits for a person, in milliseconds: an hour.
pub const REQUEST_TTL_MS: u64 = 60 * 60 * 1000;
/// Scopes of the vault that one device is granted beside its own: a list that a person still reads.
pub const DEVICE_GRANTS_MAX: usize = 64;
/// Requests that wait for a person at once, so that a list stays readable.
pub const REQUESTS_OPEN_MAX: u32 = 256;
/// How long the state keeps a pairing code or request that is over, in milliseconds: a week, as long as its
/// device may take to fetch the answer. The log keeps its events.
pub const PAIRING_KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Codes and requests that are over and that one decision ends beside its own work.
pub const SWEEP_BESIDE: usize = 8;
/// Codes and requests that are over and that one batch of a sweep ends.
pub const SWEEP_BATCH: usize = 64;
/// Records that have had their time and that one event drops from the state: more than it adds, so that what
/// is kept is bounded by what happened within that time.
pub const FORGET_STEP: usize = 4;
/// Revocations of certificates that nobody accepts any more, dropped from the state by one revocation list.
pub const REVOCATIONS_FORGOTTEN_BY_LIST: usize = 1024;
/// Life of a leaf certificate, in milliseconds: 24 hours.
pub const LEAF_LIFE_MS: u64 = 24 * 60 * 60 * 1000;
/// How long after its end a certificate that was not revoked may still be renewed, in milliseconds: a week.
pub const RENEWAL_GRACE_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// How long a revocation list is good for, in milliseconds: a day.
pub const CRL_LIFE_MS: u64 = 24 * 60 * 60 * 1000;
/// CA generations that the state keeps: rolls are rare, and a root certificate is below a kibibyte.
pub const CA_GENERATIONS_MAX: usize = 64;
/// How far a leaf certificate's begin lies in the past, in milliseconds: clocks differ by a minute.
pub const LEAF_BACKDATE_MS: u64 = 60 * 1000;
/// Pairings that may be begun within a minute, by default.
pub const PAIRING_STARTS_PER_MINUTE: u32 = 30;
/// Life of a root certificate, in milliseconds: ten years of 365 days; a roll ends it earlier.
pub const ROOT_LIFE_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
/// Longest certificate request in bytes: an Ed25519 or P-256 request has about 300.
pub const CSR_MAX: usize = 8 * 1024;
/// Longest certificate in bytes that is read.
pub const CERTIFICATE_MAX: usize = 16 * 1024;
/// DNS names and addresses in one certificate of the daemon.
pub const SERVER_NAMES_MAX: usize = 64;
/// Window in which refusals of one cause are recorded one by one, in milliseconds.
pub const REFUSAL_WINDOW_MS: u64 = 60 * 1000;
/// Refusals of one cause that are recorded one by one within that window; the rest are counted.
pub const REFUSALS_PER_WINDOW: u32 = 20;
/// Longest file of a device in bytes: four roots, a certificate and a key are below 16 KiB.
pub const DEVICE_FILE_MAX: usize = 64 * 1024;
/// Port of the device listener where the daemon that pairs has none itself.
pub const DEVICE_PORT: u16 = 7343;
/// How long a device waits for a connection, in milliseconds.
pub const CLIENT_CONNECT_MS: u64 = 10_000;
/// How long a device waits for an answer, in milliseconds.
pub const CLIENT_REQUEST_MS: u64 = 30_000;
/// Longest answer that a device reads, in bytes: a secret at its ceiling in base64, and what stands around it.
pub const CLIENT_ANSWER_MAX: usize = 2 * VALUE_MAX_CEILING;
/// How often a device asks what became of its request, in milliseconds.
pub const CLIENT_POLL_MS: u64 = 500;
/// How long a device waits before it asks the second time, in milliseconds; twice as long each time after that.
pub const CLIENT_POLL_FIRST_MS: u64 = 20;
/// Connections that may fail one after the other while a device waits: a daemon restarts within a minute.
pub const CLIENT_POLL_FAILURES_MAX: u32 = 120;
/// Highest bound on pairing starts within a minute that the configuration may set.
pub const PAIRING_STARTS_CEILING: u64 = 1_000_000;
/// Pairing sessions between their two messages at once.
pub const PAIRING_SESSIONS_MAX: usize = 64;
/// How long a pairing session waits for its second message, in milliseconds: a program sends it at once.
pub const PAIRING_SESSION_MS: u64 = 60 * 1000;
/// Connections of devices at once.
pub const CONNECTIONS_MAX: usize = 1024;
/// Connections of one device at once: a program has a few, and others want theirs.
pub const DEVICE_CONNECTIONS_MAX: usize = 16;
/// Renewals of one device within an hour: three a day are due, and some programs try.
pub const RENEWALS_PER_HOUR: u32 = 16;
/// How long a peer may take nothing of an answer, in milliseconds.
pub const WRITE_MS: u64 = 15_000;
/// Connections at once that have not finished their handshake, or that pair; the oldest makes room.
pub const UNFINISHED_MAX: usize = 512;
/// How long a TLS handshake may take, in milliseconds.
pub const HANDSHAKE_MS: u64 = 10_000;
/// How long the head of a request may take, from the end of the one before, in milliseconds.
pub const HEADER_MS: u64 = 15_000;
/// How long a request may take altogether, in milliseconds.
pub const REQUEST_MS: u64 = 30_000;
/// Bytes of a request's head.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Header lines of a request.
pub const HEADERS_MAX: usize = 64;
/// Bytes of a request's body: a certificate request with its proof is below 12 KiB.
pub const REQUEST_BODY_MAX: usize = 64 * 1024;
/// How long a stopping daemon waits for requests under way, in milliseconds.
pub const DRAIN_MS: u64 = 10_000;
/// How long refusals gather before they are recorded, in milliseconds.
pub const REFUSALS_GATHER_MS: u64 = 1_000;
/// Least time between two records of refusals, in milliseconds: a flood fills no log.
pub const REFUSALS_SPACING_MS: u64 = 10_000;
/// Most refusals told apart in one record; further ones are counted without their device.
pub const REFUSAL_NOTES_MAX: usize = 256;
/// How long sightings of devices gather before they are recorded, in milliseconds.
pub const SEEN_GATHER_MS: u64 = 60_000;
/// How often the daemon looks whether its ledger still takes writes, in milliseconds.
pub const ALIVE_TICK_MS: u64 = 500;
/// How often the daemon looks whether its certificate is due, in milliseconds.
pub const SERVER_RENEWAL_TICK_MS: u64 = 60_000;
/// Commands that run for clients of the local socket at once; each has a thread of its own.
pub const LOCAL_CLIENTS_MAX: usize = 64;
/// Connections of the local socket at once that are no running command; the oldest makes room.
pub const LOCAL_CONNECTIONS_MAX: usize = 128;
/// Longest request of a client on the local socket, in bytes: a command line at the system's own bound.
pub const CLIENT_REQUEST_MAX: usize = 4 * 1024 * 1024;
/// CA keys in the key ring at once: one that issues, one that is prepared, and some that are still trusted.
pub const CA_KEYS_MAX: usize = 8;

/// Longest reference to a secret in bytes, as its canonical text: a program with its arguments fits.
pub const REFERENCE_MAX: usize = 16 * 1024;
/// Longest name of an environment variable in a reference, in bytes.
pub const ENV_NAME_MAX: usize = 256;
/// Longest path in a reference in bytes: Linux takes no longer one.
pub const PATH_MAX: usize = 4096;
/// Longest part of a path in a reference in bytes: Linux takes no longer one.
pub const PATH_PART_MAX: usize = 255;
/// Longest name or JSON pointer of a field in a reference, in bytes.
pub const FIELD_MAX: usize = 512;
/// How long a program that is to end gets to end by itself, in milliseconds, before it is killed.
pub const EXEC_GRACE_MS: u64 = 500;
/// How long a killed program is waited for, in milliseconds; after that it is left to a thread of its own.
pub const EXEC_KILLED_MS: u64 = 2_000;
/// How often a program that wrote nothing is looked at, in milliseconds.
pub const EXEC_TICK_MS: u64 = 10;
/// Most arguments of a program in a reference.
pub const EXEC_ARGS_MAX: usize = 64;
/// Most references that are resolved at once.
pub const REFERENCES_MAX: usize = 4096;
/// Longest question about references that a daemon reads, in bytes: a few long ones, or all of them short.
pub const RESOLVE_QUESTION_MAX: usize = 8 * 1024 * 1024;
/// Longest answer about references that is taken from a daemon, in bytes: hundreds of values at their bound.
pub const RESOLVE_ANSWER_MAX: usize = 256 * 1024 * 1024;
/// Default bound on a resolved value in bytes: that of a secret.
pub const RESOLVE_BYTES_DEFAULT: u32 = 64 * 1024;
/// Highest bound on a resolved value that a reference or the configuration may set, in bytes.
pub const RESOLVE_BYTES_CEILING: u32 = 1024 * 1024;
/// Default time in milliseconds that one resolution may take: a program may have to ask its server.
pub const RESOLVE_MS_DEFAULT: u32 = 10_000;
/// Highest time in milliseconds that a reference or the configuration may set: ten minutes, for a program
/// that asks a person.
pub const RESOLVE_MS_CEILING: u32 = 600_000;
/// How long one call of the system's keystore may take, in milliseconds: it answers within a few, but for a
/// prompt, and nobody may be there to answer that.
pub const KEYSTORE_MS: u64 = 10_000;
/// How long the system's keystore may take to list its items, in milliseconds: each is asked for, a fraction of a
/// millisecond each where nothing else runs, and there may be tens of thousands.
pub const KEYSTORE_LIST_MS: u64 = 60_000;
/// Longest file of an `encrypted_file` object in bytes: the largest envelope in base64, and what stands around it.
pub const OBJECT_BYTES_MAX: u64 = (VALUE_MAX_CEILING as u64 + 1024) * 4 / 3 + 1024;
/// Bytes of envelopes that one event carries back into the log: far below a body's bound.
pub const MOVED_BYTES_MAX: usize = 512 * 1024;
/// Envelopes that one event carries back into the log.
pub const MOVED_MAX: usize = 1024;
/// Rounds in which a migration copies what was written meanwhile before it makes writers wait for the rest.
pub const MIGRATION_ROUNDS: usize = 8;
/// Envelopes that a migration copies while writers wait, unless its rounds are used up.
pub const MIGRATION_LAST_ROUND: usize = 64;
/// How often a write to a backend outside the log is tried again because the state changed under it.
pub const OUTSIDE_TRIES: usize = 64;
/// Versions of secrets that are looked at in one stride over all of them.
pub const VERSIONS_STRIDE: usize = 512;
/// Longest template in bytes: a configuration file, not an image.
pub const TEMPLATE_MAX: usize = 4 * 1024 * 1024;
/// Longest text in bytes that a template may become: one value may stand in it many times.
pub const RENDERED_MAX: usize = 64 * 1024 * 1024;
/// Most secrets that one program or template is given: more than any environment holds.
pub const DELIVERIES_MAX: usize = 1024;
/// Longest env file in bytes.
pub const ENV_FILE_MAX: usize = 1024 * 1024;
/// Most variables of an env file.
pub const ENV_FILE_ENTRIES_MAX: usize = 4096;
/// Longest `NAME=value` of an environment in bytes, with its end: the kernel takes no longer one.
pub const ENV_STRING_MAX: usize = 128 * 1024;
/// Shortest value in bytes that is masked: shorter ones stand in ordinary words.
pub const MASK_MIN: usize = 4;
/// Shortest encoded form of a value in bytes that is masked.
pub const MASK_FORM_MIN: usize = 8;
/// Longest piece of a value in bytes that is looked for at once: so much of an output is held back at most.
pub const MASK_PIECE_MAX: usize = 512;
/// How long an output is held back in which a secret may have begun, in milliseconds.
pub const MASK_IDLE_MS: u64 = 100;
/// How long a masked output is waited for once its program has ended, in milliseconds without a byte.
pub const MASK_DRAIN_MS: u64 = 250;
/// Bytes of an output that are read at once.
pub const MASK_CHUNK: usize = 16 * 1024;
/// Readers of one mounted file that are served at once, where the value does not fit into a pipe.
pub const MOUNT_READERS_MAX: usize = 64;
/// How long a reader of a mounted file may take nothing, in milliseconds.
pub const MOUNT_STALL_MS: u64 = 30_000;
/// Bytes hashed per byte scanned at most while carving: real frames need one, made-up headers ask for thousands.
pub const CARVE_HASH_FACTOR: usize = 64;
/// Pieces of split frames remembered while carving: a terabyte of random bytes holds about as many look-alikes.
pub const CARVE_PIECES_MAX: usize = 1 << 20;
/// Ways tried to put one split frame together.
pub const CARVE_TRIES_MAX: usize = 256;
/// Damaged headers that a carving report names one by one.
pub const CARVE_DAMAGED_MAX: usize = 1000;
/// Longest signed note in bytes: a checkpoint is below one kilobyte, and some witnesses sign beside.
pub const NOTE_BYTES_MAX: usize = 8 * 1024;
/// Most signatures on one note: twice what the format asks every reader to take.
pub const NOTE_SIGNATURES_MAX: usize = 32;
/// Notes that an anchor keeps, the newest among them: enough to see where two histories part.
pub const ANCHOR_NOTES_KEPT: usize = 16;
/// Longest anchor file in bytes that is read.
pub const ANCHOR_BYTES_MAX: u64 = 256 * 1024;
/// Longest path of an anchor file in bytes: its name is a key of the state.
pub const ANCHOR_PATH_MAX: usize = 512;
/// Events after which a checkpoint is signed: one sync more in a thousand.
pub const CHECKPOINT_EVENTS: u64 = 1000;
/// Minutes after which one is signed where there were any events.
pub const CHECKPOINT_MINUTES: u64 = 60;
/// Most entries of the state that are hashed while somebody waits for a ledger to close: about 20 ms.
pub const STATE_ENTRIES_AT_CLOSE: u64 = 16 * 1024;
/// Entries of the state that are hashed at every checkpoint: it takes below a millisecond.
pub const STATE_ENTRIES_SMALL: u64 = 1024;
/// The state's root is computed again after one event for so many of its entries: what an event pays for
/// stays bounded however large the state is.
pub const STATE_ENTRIES_PER_EVENT: u64 = 4;
/// Longest file of checkpoints in bytes that is read: a hundred thousand of them.
pub const CHECKPOINT_NOTES_MAX: u64 = 64 * 1024 * 1024;
/// Most anchor files: each is read at every opening.
pub const ANCHOR_FILES_MAX: usize = 16;
/// Largest file of the ledger's own checkpoints in bytes that is examined.
pub const CHECKPOINT_FILE_MAX: u64 = 64 * 1024 * 1024;
/// Events in one evidence bundle: a person picks hundreds; a whole log is copied instead.
pub const BUNDLE_RECORDS_MAX: u32 = 65_536;
/// Longest evidence bundle in bytes: it is read into memory as a whole.
pub const BUNDLE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest name of the tool that made a bundle.
pub const BUNDLE_TOOL_MAX: usize = 64;
/// Longest text that says what was chosen for a bundle.
pub const BUNDLE_SELECTION_MAX: usize = 4096;

/// Bytes of secrets in one event of an import: what is read to read one of them again.
pub const IMPORT_EVENT_BYTES: usize = 48 * 1024;
/// Events with secrets that one import makes, but for those that outgrow their bound by themselves: the batch has
/// room for everything else.
pub const IMPORT_EVENTS_MAX: usize = 1536;
/// Profiles or orders in one event of an import.
pub const IMPORT_PROFILES_PER_EVENT: usize = 64;
/// Characters of where a source was that are recorded.
pub const IMPORT_ORIGIN_MAX: usize = 256;
/// Longest file of a source that is imported, in bytes: some 300,000 sealed values as lists of numbers.
pub const IMPORT_FILE_MAX: u64 = 1024 * 1024 * 1024;
/// Longest other file of such a source: identity state, metadata, one object.
pub const IMPORT_STATE_MAX: u64 = 256 * 1024 * 1024;
/// Items in one source.
pub const IMPORT_ITEMS_MAX: usize = 1_000_000;
/// Certificates of one imported device.
pub const IMPORT_CERTIFICATES_MAX: usize = 1024;

/// Plain bytes in one sealed chunk of a backup (format): the tag is one part in 16,384 of it.
pub const BACKUP_CHUNK: usize = 256 * 1024;
/// Longest record in a backup in bytes (format): the longest frame fits.
pub const BACKUP_RECORD_MAX: usize = 2 * 1024 * 1024;
/// Bytes of frames, or of slots of the key table, that one record of a backup gathers.
pub const BACKUP_GATHER: usize = 512 * 1024;
/// Age recipients of one backup: each adds about 100 bytes.
pub const BACKUP_RECIPIENTS_MAX: usize = 32;
/// Longest `age` file in a backup's header in bytes (format).
pub const BACKUP_AGE_MAX: usize = 64 * 1024;
/// Longest name of the program that made a backup in bytes (format).
pub const BACKUP_PROGRAM_MAX: usize = 32;
/// Files of one restore: a full backup and its increments.
pub const BACKUP_FILES_MAX: usize = 4096;
/// How often a backup looks for a moment at which every envelope outside the log is at hand.
pub const BACKUP_ROUNDS: usize = 64;
