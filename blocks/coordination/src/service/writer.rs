//! The one task of a node that writes: it gathers what waits, and carries it out in one transaction.
//!
//! - WRITER-1: an operation is carried out on keys that hold every revision before its own, since the head of its project is locked
//!   from when it is read until the commit.
//! - WRITER-2: keys in memory change only by what is committed, and an answer `Ok` is sent after they did.
//! - WRITER-3: an operation that fails takes none of its group's others with it; a transaction that fails takes all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use database::{Change, Tx};
use kernel::{ProjectId, Shutdown, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{Answer, Shared, Space};
use crate::{
    Error, Result,
    model::{Event, Keyspace, Op, OpResult, Staged, apply, end_lease},
    store::{self, Head, StoredLease},
};

/// The most operations of one transaction, and the most bytes they put.
const MAX_GROUP: usize = 1024;
const MAX_GROUP_BYTES: usize = 16 << 20;
/// How often other nodes' changes are looked for when nothing told of them.
const POLL: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Op(Op),
    Grant {
        id: i64,
        ttl_seconds: i64,
    },
    KeepAlive {
        id: i64,
    },
    Revoke {
        id: i64,
        if_run_out: bool,
    },
    Compact {
        revision: i64,
    },
    /// Nothing but laying on the keys what others committed.
    CatchUp,
}

/// What was done.
#[derive(Debug, Clone)]
pub(crate) enum Done {
    Op(OpResult),
    Lease(StoredLease),
    Nothing,
}

/// A command and who waits for it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) project: ProjectId,
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Answer<Done>>>,
}

/// Commands of one project in one transaction, in their order; with each its place in the group.
type Commands = Vec<(usize, Command)>;

/// What a transaction did to one project's keys.
#[derive(Debug)]
struct Outcome {
    /// All of its keys, when they were not in memory or history up to them was given up.
    whole: Option<Keyspace>,
    /// What others had committed, and what this did.
    changes: Vec<(i64, Vec<Event>)>,
    compacted: i64,
    results: Vec<(usize, Result<Answer<Done>>)>,
}

#[derive(Debug)]
pub(crate) struct Writer {
    requests: mpsc::Receiver<Request>,
}

impl Writer {
    pub(crate) fn new(requests: mpsc::Receiver<Request>) -> Self {
        Self { requests }
    }

    pub(crate) async fn run(&mut self, shared: &Arc<Shared>, shutdown: &Shutdown) {
        let mut changes = shared.db.watch(store::TOPIC);
        let mut group = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                first = self.requests.recv() => match first {
                    Some(first) => group.push(first),
                    None => break,
                },
                hint = changes.recv() => self.hear(shared, hint).await,
                () = shared.clock.sleep(POLL) => self.follow(shared, None).await,
            }
            let mut bytes = group.iter().map(Request::bytes).sum::<usize>();
            while group.len() < MAX_GROUP && bytes < MAX_GROUP_BYTES {
                let Ok(next) = self.requests.try_recv() else { break };
                bytes += next.bytes();
                group.push(next);
            }
            if !group.is_empty() {
                write(shared, std::mem::take(&mut group)).await;
            }
        }
    }

    async fn hear(&self, shared: &Arc<Shared>, hint: Result<Change, broadcast::error::RecvError>) {
        match hint {
            Ok(Change::Key(key)) => self.follow(shared, Some(key)).await,
            Ok(Change::Resync) | Err(broadcast::error::RecvError::Lagged(_)) => self.follow(shared, None).await,
            Err(broadcast::error::RecvError::Closed) => shared.clock.sleep(POLL).await,
        }
    }

    /// Lays what others committed on the keys of the projects that may have changed.
    async fn follow(&self, shared: &Arc<Shared>, key: Option<i64>) {
        if shared.db.engine() == database::Engine::Sqlite {
            return;
        }
        for (project, space) in shared.spaces.all() {
            if key.is_some_and(|key| key != topic_key(&project)) {
                continue;
            }
            // Away for a moment: the next look finds it.
            let Ok(head) = store::head(&shared.db, &project).await else { continue };
            space.note_compacted(head.compacted);
            if head.revision > space.revision() {
                let (reply, _) = oneshot::channel();
                write(shared, vec![Request { project, command: Command::CatchUp, reply }]).await;
            }
        }
    }
}

impl Request {
    fn bytes(&self) -> usize {
        fn of(op: &Op) -> usize {
            match op {
                Op::Put(put) => put.key.len() + put.value.as_ref().map_or(0, bytes::Bytes::len),
                Op::Txn(txn) => txn.success.iter().chain(&txn.failure).map(of).sum(),
                Op::Range(_) | Op::Delete(_) => 64,
            }
        }
        if let Command::Op(op) = &self.command { of(op) } else { 64 }
    }
}

/// The key under which watchers of the database hear of a project.
fn topic_key(project: &ProjectId) -> i64 {
    // FNV-1a: the same on every node.
    let hash = project
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    i64::from_ne_bytes(hash.to_ne_bytes())
}

/// Carries a group out, and answers each.
async fn write(shared: &Arc<Shared>, group: Vec<Request>) {
    let mut by_project: BTreeMap<ProjectId, Commands> = BTreeMap::new();
    let mut replies: Vec<Option<oneshot::Sender<_>>> = Vec::with_capacity(group.len());
    for (at, request) in group.into_iter().enumerate() {
        by_project.entry(request.project).or_default().push((at, request.command));
        replies.push(Some(request.reply));
    }
    let (by_project, at) = (Arc::new(by_project), shared.clock.now());
    let (body, inside) = (by_project.clone(), shared.clone());
    let written = shared.db.tx(async move |tx| -> Result<Vec<(ProjectId, Outcome)>> {
        let mut outcomes = Vec::with_capacity(body.len());
        // In the order of their names, so that two nodes never wait for each other.
        for (project, commands) in body.iter() {
            outcomes.push((project.clone(), carry_out(tx, &inside, project, commands, at).await?));
        }
        Ok(outcomes)
    });
    let answer = |reply: &mut Option<oneshot::Sender<_>>, result| {
        if let Some(reply) = reply.take() {
            // Who does not wait any more does not mind.
            drop(reply.send(result));
        }
    };
    match written.await {
        Ok(outcomes) => {
            for (project, outcome) in outcomes {
                let results = take_in(shared, project, outcome);
                for (at, result) in results {
                    if let Some(reply) = replies.get_mut(at) {
                        answer(reply, result);
                    }
                }
            }
        }
        Err(e) => {
            tracing::warn!(error = %e, "changes of keys were not written");
            for reply in &mut replies {
                answer(reply, Err(e.clone()));
            }
        }
    }
}

/// Makes what was committed seen.
fn take_in(shared: &Shared, project: ProjectId, outcome: Outcome) -> Vec<(usize, Result<Answer<Done>>)> {
    match (shared.spaces.get(&project), outcome.whole) {
        (Some(space), whole) => {
            if let Some(whole) = whole {
                space.replace(whole);
            }
            space.note_compacted(outcome.compacted);
            space.commit(outcome.changes);
        }
        (None, whole) => {
            let space = Space::new(whole.unwrap_or_else(Keyspace::new), outcome.compacted);
            space.commit(outcome.changes);
            shared.spaces.insert(project, Arc::new(space));
        }
    }
    outcome.results
}

async fn carry_out(
    tx: &mut Tx<'_>,
    shared: &Shared,
    project: &ProjectId,
    commands: &Commands,
    now: Timestamp,
) -> Result<Outcome> {
    let mut head = store::lock_head(tx, project).await?;
    let space = shared.spaces.get(project);
    let known = space.as_ref().map(|space| space.revision());
    // History between what is known and what was given up cannot be followed.
    let whole = if known.is_none_or(|known| known < head.compacted) {
        Some(read_whole(tx, project, head).await?)
    } else {
        None
    };
    let caught_up = match (&whole, known) {
        (None, Some(known)) if known < head.revision => read_changes(tx, project, known, head.revision).await?,
        _ => Vec::new(),
    };
    let leases = leases_of(tx, project, commands, now).await?;
    let mut work = Work {
        now,
        leases,
        saved: BTreeMap::new(),
        ended: BTreeSet::new(),
        max_bytes: shared.config.max_bytes.as_usize(),
    };

    let work_on = |base: &Keyspace, work: &mut Work, head: &mut Head| {
        let mut staged = Staged::on(base);
        let mut before = Vec::with_capacity(caught_up.len());
        for (revision, entries) in &caught_up {
            let events: Vec<Event> = entries
                .iter()
                .map(|entry| Event {
                    kv: entry.kv.clone(),
                    is_delete: entry.is_delete,
                    previous: staged.get(&entry.kv.key).cloned(),
                })
                .collect();
            staged.take(&events, *revision);
            before.push((*revision, events));
        }
        let (mut made, mut results) = (Vec::new(), Vec::with_capacity(commands.len()));
        for (at, command) in commands {
            let result = work.command(&mut staged, head, command, &mut made);
            results.push((*at, result.map(|done| Answer { revision: staged.revision, result: done })));
        }
        head.revision = staged.revision;
        (before, made, results)
    };
    let before = head;
    let (mut changes, made, results) = match (&whole, &space) {
        (Some(whole), _) => work_on(whole, &mut work, &mut head),
        (None, Some(space)) => space.read(|base| work_on(base, &mut work, &mut head)),
        (None, None) => work_on(&Keyspace::new(), &mut work, &mut head),
    };
    store::append(tx, project, &made).await?;
    store::save_leases(tx, project, &work.saved.into_values().collect::<Vec<_>>()).await?;
    store::remove_leases(tx, project, &work.ended.into_iter().collect::<Vec<_>>()).await?;
    if head != before {
        store::set_head(tx, project, head).await?;
        tx.notify(store::TOPIC, topic_key(project));
    }
    changes.extend(made);
    Ok(Outcome { whole, changes, compacted: head.compacted, results })
}

async fn read_whole(tx: &mut Tx<'_>, project: &ProjectId, head: Head) -> Result<Keyspace> {
    let mut keys = Keyspace::new();
    let mut at = (0, -1);
    loop {
        let page = store::log_in(tx, project, at, head.revision).await?;
        let Some(last) = page.last() else { break };
        at = (last.kv.mod_revision, last.sub);
        for entry in page {
            let (revision, event) =
                (entry.kv.mod_revision, Event { kv: entry.kv, is_delete: entry.is_delete, previous: None });
            keys.commit(&[event], revision);
        }
    }
    keys.revision = head.revision;
    Ok(keys)
}

/// What was committed between two revisions, by revision.
async fn read_changes(
    tx: &mut Tx<'_>,
    project: &ProjectId,
    from: i64,
    to: i64,
) -> Result<Vec<(i64, Vec<store::Entry>)>> {
    let mut changes: Vec<(i64, Vec<store::Entry>)> = Vec::new();
    let mut at = (from, i64::MAX);
    loop {
        let page = store::log_in(tx, project, at, to).await?;
        let Some(last) = page.last() else { break };
        at = (last.kv.mod_revision, last.sub);
        for entry in page {
            let revision = entry.kv.mod_revision;
            match changes.last_mut() {
                Some((last, entries)) if *last == revision => entries.push(entry),
                _ => changes.push((revision, vec![entry])),
            }
        }
    }
    Ok(changes)
}

/// Those leases that commands name and that have not run out.
async fn leases_of(
    tx: &mut Tx<'_>,
    project: &ProjectId,
    commands: &Commands,
    now: Timestamp,
) -> Result<HashMap<i64, StoredLease>> {
    fn collect(op: &Op, ids: &mut BTreeSet<i64>) {
        match op {
            Op::Put(put) => ids.extend(put.lease.filter(|id| *id != 0)),
            Op::Txn(txn) => txn.success.iter().chain(&txn.failure).for_each(|op| collect(op, ids)),
            Op::Range(_) | Op::Delete(_) => {}
        }
    }
    let mut ids = BTreeSet::new();
    let mut run_out_too = BTreeSet::new();
    for (_, command) in commands {
        match command {
            Command::Op(op) => collect(op, &mut ids),
            Command::Grant { id, .. } | Command::KeepAlive { id } => drop(ids.insert(*id)),
            Command::Revoke { id, .. } => {
                ids.insert(*id);
                run_out_too.insert(*id);
            }
            Command::Compact { .. } | Command::CatchUp => {}
        }
    }
    let mut leases = HashMap::new();
    for id in ids {
        if let Some(lease) = store::lease_in(tx, project, id).await?
            && (lease.expires_at > now || run_out_too.contains(&id))
        {
            leases.insert(id, lease);
        }
    }
    Ok(leases)
}

/// What a group does to one project beside its keys.
struct Work {
    now: Timestamp,
    leases: HashMap<i64, StoredLease>,
    saved: BTreeMap<i64, StoredLease>,
    ended: BTreeSet<i64>,
    max_bytes: usize,
}

impl Work {
    fn has_lease(&self, id: i64) -> bool {
        self.leases.get(&id).is_some_and(|lease| lease.expires_at > self.now)
    }

    fn save(&mut self, id: i64, ttl_seconds: i64) -> Done {
        let ttl = Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(0));
        let lease = StoredLease { id, ttl_seconds, expires_at: self.now.plus(ttl) };
        self.leases.insert(id, lease);
        self.saved.insert(id, lease);
        self.ended.remove(&id);
        Done::Lease(lease)
    }

    fn command(
        &mut self,
        staged: &mut Staged<'_>,
        head: &mut Head,
        command: &Command,
        made: &mut Vec<(i64, Vec<Event>)>,
    ) -> Result<Done> {
        match command {
            Command::Op(op) => {
                let (result, changes) = apply(staged, op, &|id| self.has_lease(id), self.max_bytes)?;
                if !changes.is_empty() {
                    made.push((staged.revision, changes));
                }
                Ok(Done::Op(result))
            }
            Command::Grant { id, .. } if self.leases.contains_key(id) => Err(Error::LeaseExists),
            Command::Grant { id, ttl_seconds } => Ok(self.save(*id, *ttl_seconds)),
            Command::KeepAlive { id } => match self.leases.get(id) {
                Some(lease) if lease.expires_at > self.now => Ok(self.save(*id, lease.ttl_seconds)),
                _ => Err(Error::LeaseNotFound),
            },
            Command::Revoke { id, if_run_out } => {
                let lease = self.leases.get(id).ok_or(Error::LeaseNotFound)?;
                // Kept alive since it was found to have run out.
                if *if_run_out && lease.expires_at > self.now {
                    return Ok(Done::Nothing);
                }
                let changes = end_lease(staged, *id);
                if !changes.is_empty() {
                    made.push((staged.revision, changes));
                }
                self.leases.remove(id);
                self.saved.remove(id);
                self.ended.insert(*id);
                Ok(Done::Nothing)
            }
            Command::Compact { revision } if *revision > staged.revision => Err(Error::FutureRevision),
            Command::Compact { revision } if *revision <= head.compacted => Err(Error::Compacted(head.compacted)),
            Command::Compact { revision } => {
                head.compacted = *revision;
                Ok(Done::Nothing)
            }
            Command::CatchUp => Ok(Done::Nothing),
        }
    }
}
