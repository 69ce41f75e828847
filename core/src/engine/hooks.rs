//! Where tests step in (layer L5): named places at which a test's action runs, mistakes that a
//! test plants to see itself fail, and limits that a test makes small. All of it belongs to one
//! directory, and without the feature `sim` all of it is nothing.

#[cfg(any(test, feature = "sim"))]
mod armed {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    /// How many interventions there are: without any, nothing is locked.
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    static LIST: Mutex<Vec<Arc<Entry>>> = Mutex::new(Vec::new());

    type Action = Box<dyn FnOnce() + Send>;

    enum What {
        Action(Mutex<Option<Action>>),
        Mistake,
        Limit(u64),
    }

    struct Entry {
        dir: PathBuf,
        name: &'static str,
        what: What,
        met: AtomicUsize,
    }

    /// Something that a test does to the database in one directory, until it is dropped.
    #[must_use]
    pub struct Intervention(Arc<Entry>);

    impl Intervention {
        /// Runs `action` when the place is reached, once, on the thread that reaches it. Of
        /// several actions at one place each arrival runs the oldest that is left.
        pub fn at(
            dir: impl AsRef<Path>,
            place: &'static str,
            action: impl FnOnce() + Send + 'static,
        ) -> Intervention {
            Intervention::new(dir, place, What::Action(Mutex::new(Some(Box::new(action)))))
        }

        /// Makes the engine do it the wrong way.
        pub fn mistake(dir: impl AsRef<Path>, name: &'static str) -> Intervention {
            Intervention::new(dir, name, What::Mistake)
        }

        /// Sets a limit that is too large to be reached by tests.
        pub fn limit(dir: impl AsRef<Path>, name: &'static str, value: u64) -> Intervention {
            Intervention::new(dir, name, What::Limit(value))
        }

        /// How often the engine has met it; for an action, whether it was begun.
        pub fn met(&self) -> usize {
            self.0.met.load(Ordering::SeqCst)
        }

        fn new(dir: impl AsRef<Path>, name: &'static str, what: What) -> Intervention {
            let (dir, met) = (dir.as_ref().to_path_buf(), AtomicUsize::new(0));
            let entry = Arc::new(Entry { dir, name, what, met });
            list().push(Arc::clone(&entry));
            COUNT.fetch_add(1, Ordering::SeqCst);
            Intervention(entry)
        }
    }

    impl Drop for Intervention {
        fn drop(&mut self) {
            list().retain(|entry| !Arc::ptr_eq(entry, &self.0));
            COUNT.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn list() -> MutexGuard<'static, Vec<Arc<Entry>>> {
        LIST.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first that `choose` makes something of.
    fn find<T>(dir: &Path, name: &str, choose: impl Fn(&What) -> Option<T>) -> Option<T> {
        if COUNT.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let list = list();
        let mut fitting = list.iter().filter(|entry| entry.name == name && entry.dir == dir);
        fitting.find_map(|entry| {
            let chosen = choose(&entry.what)?;
            entry.met.fetch_add(1, Ordering::SeqCst);
            Some(chosen)
        })
    }

    /// The engine is at a place.
    pub(crate) fn reach(dir: &Path, place: &str) {
        let action = find(dir, place, |what| match what {
            What::Action(action) => action.lock().unwrap_or_else(PoisonError::into_inner).take(),
            _ => None,
        });
        if let Some(action) = action {
            action();
        }
    }

    /// Whether to do it the wrong way.
    pub(crate) fn planted(dir: &Path, mistake: &str) -> bool {
        let here = |what: &What| matches!(what, What::Mistake).then_some(());
        crate::planted::planted(mistake) || find(dir, mistake, here).is_some()
    }

    /// A limit, or what a test wants it to be.
    pub(crate) fn limit(dir: &Path, name: &str, usual: u64) -> u64 {
        let chosen = find(dir, name, |what| match what {
            What::Limit(value) => Some(*value),
            _ => None,
        });
        chosen.unwrap_or(usual)
    }
}

#[cfg(not(any(test, feature = "sim")))]
mod unarmed {
    use std::path::Path;

    /// The engine is at a place.
    #[inline(always)]
    pub(crate) fn reach(_dir: &Path, _place: &str) {}

    /// Whether to do it the wrong way.
    #[inline(always)]
    pub(crate) fn planted(_dir: &Path, _mistake: &str) -> bool {
        false
    }

    /// A limit.
    #[inline(always)]
    pub(crate) fn limit(_dir: &Path, _name: &str, usual: u64) -> u64 {
        usual
    }
}

#[cfg(any(test, feature = "sim"))]
pub use armed::Intervention;
#[cfg(any(test, feature = "sim"))]
pub(crate) use armed::{limit, planted, reach};
#[cfg(not(any(test, feature = "sim")))]
pub(crate) use unarmed::{limit, planted, reach};
