//! The connected clients: who they are, how long they may be quiet, and how they are told to go.
//!
//! Each connection writes its deadline, a store without a timer; one task looks at all of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Waiting for a command with nothing of it received: may be ended at any moment.
const IDLE: u8 = 0;
/// Executing or sending.
const BUSY: u8 = 1;
/// Told to go.
const ENDED: u8 = 2;

/// A client that has given so many wrong passwords is closed: its next guess costs a connection.
const MOST_GUESSES: u8 = 10;

/// One connection.
pub(crate) struct Client {
    /// Counts up from 1.
    pub(crate) id: u64,
    /// Where it comes from.
    pub(crate) peer: SocketAddr,
    /// As CLIENT SETNAME says.
    pub(crate) name: Mutex<String>,
    connected_ms: u64,
    /// Milliseconds of [`Clients::now_ms`] at which it is closed.
    deadline_ms: AtomicU64,
    last_ms: AtomicU64,
    phase: AtomicU8,
    task: OnceLock<AbortHandle>,
    begun: AtomicBool,
    guesses: AtomicU8,
}

/// All connections.
pub(crate) struct Clients {
    start: Instant,
    /// Milliseconds since the start, as of the last tick.
    now_ms: AtomicU64,
    next_id: AtomicU64,
    all: Mutex<HashMap<u64, Arc<Client>>>,
}

/// A registered client; dropping it removes it.
pub(crate) struct Registered {
    clients: Arc<Clients>,
    /// The client.
    pub(crate) client: Arc<Client>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.clients.lock().remove(&self.client.id);
    }
}

impl Clients {
    /// None.
    pub(crate) fn new() -> Arc<Clients> {
        Arc::new(Clients {
            start: Instant::now(),
            now_ms: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            all: Mutex::new(HashMap::new()),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Client>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the start, up to a tick late.
    #[inline]
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// Registers a connection that must send something within `first`; `None` when there are
    /// `limit` already.
    pub(crate) fn register(
        self: &Arc<Clients>,
        peer: SocketAddr,
        limit: u64,
        first: Duration,
    ) -> Option<Registered> {
        let mut all = self.lock();
        if all.len() as u64 >= limit {
            return None;
        }
        let now = self.now_ms();
        let client = Arc::new(Client {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            peer,
            name: Mutex::new(String::new()),
            connected_ms: now,
            deadline_ms: AtomicU64::new(now + first.as_millis() as u64),
            last_ms: AtomicU64::new(now),
            phase: AtomicU8::new(IDLE),
            task: OnceLock::new(),
            begun: AtomicBool::new(false),
            guesses: AtomicU8::new(0),
        });
        all.insert(client.id, Arc::clone(&client));
        Some(Registered { clients: Arc::clone(self), client })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends those whose deadline has passed, for ever.
    pub(crate) async fn watch(self: Arc<Clients>) {
        loop {
            tokio::time::sleep(TICK).await;
            let now = self.start.elapsed().as_millis() as u64;
            self.now_ms.store(now, Ordering::Relaxed);
            for client in self.lock().values() {
                if client.deadline_ms.load(Ordering::Relaxed) < now {
                    tracing::info!(client = client.id, peer = %client.peer, "timed out");
                    client.end();
                }
            }
        }
    }

    /// Ends those that are idle; the others end after what they are doing.
    pub(crate) fn end_idle(&self) {
        for client in self.lock().values() {
            let idle =
                client.phase.compare_exchange(IDLE, ENDED, Ordering::SeqCst, Ordering::SeqCst);
            if idle.is_ok() {
                client.end();
            }
        }
    }

    /// Ends all of them at once.
    pub(crate) fn end_all(&self) {
        self.lock().values().for_each(|client| client.end());
    }

    /// One line for each, as CLIENT LIST answers.
    pub(crate) fn describe(&self) -> String {
        let mut clients: Vec<_> = self.lock().values().cloned().collect();
        clients.sort_unstable_by_key(|client| client.id);
        clients.iter().map(|client| client.describe(self.now_ms()) + "\n").collect()
    }
}

impl Client {
    /// The task that serves it, so that it can be ended.
    pub(crate) fn set_task(&self, task: AbortHandle) {
        let _ = self.task.set(task);
    }

    /// Sets the time at which it is closed.
    #[inline]
    pub(crate) fn give_until(&self, deadline_ms: u64) {
        self.deadline_ms.store(deadline_ms, Ordering::Relaxed);
    }

    /// Says that a command is being executed, which takes the time that it takes; false when it was
    /// told to go meanwhile.
    #[inline]
    pub(crate) fn begin(&self, now_ms: u64) -> bool {
        self.give_until(u64::MAX);
        self.last_ms.store(now_ms, Ordering::Relaxed);
        self.begun.store(true, Ordering::Relaxed);
        self.phase.compare_exchange(IDLE, BUSY, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// When it connected.
    pub(crate) fn connected_ms(&self) -> u64 {
        self.connected_ms
    }

    /// Whether it has ever sent anything.
    #[inline]
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// It gave a wrong password.
    pub(crate) fn note_guess(&self) {
        self.guesses.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(client = self.id, peer = %self.peer, "wrong password");
    }

    /// Whether it has given too many.
    pub(crate) fn has_guessed_enough(&self) -> bool {
        self.guesses.load(Ordering::Relaxed) >= MOST_GUESSES
    }

    /// Says that it waits for a command.
    #[inline]
    pub(crate) fn rest(&self) {
        self.phase.store(IDLE, Ordering::SeqCst);
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The line of CLIENT LIST and CLIENT INFO.
    pub(crate) fn describe(&self, now_ms: u64) -> String {
        let age = now_ms.saturating_sub(self.connected_ms) / 1000;
        let idle = now_ms.saturating_sub(self.last_ms.load(Ordering::Relaxed)) / 1000;
        let (id, peer, name) = (self.id, self.peer, self.name());
        format!("id={id} addr={peer} name={name} age={age} idle={idle} db=0")
    }

    /// Drops its connection at the next point where its task waits.
    fn end(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}
