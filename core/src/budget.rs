//! How the memory budget is divided (layer L0): a pure function of the options and the machine.
//!
//! Invariant SHARES: what the plan gives to memtables, cache, background work, open files and
//! pinned results together is at most the budget. What an option says wins over the plan, but none
//! enlarges the heap of the memtables.

use crate::options::Options;

/// Where the heap goes, and the sizes that follow from it; all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryPlan {
    /// All of it.
    pub(crate) budget_bytes: u64,
    /// Log bytes of a segment, and so of a memtable.
    pub(crate) memtable_size_bytes: u64,
    /// Log bytes that may wait for their flush.
    pub(crate) backlog_limit_bytes: u64,
    /// Heap of all memtables: where writers wait.
    pub(crate) memtables_heap_bytes: u64,
    /// Heap at which one memtable is frozen, however little log it indexes.
    pub(crate) memtable_heap_bytes: u64,
    /// Heap of the cache, unless its own option says otherwise.
    pub(crate) cache_bytes: u64,
    /// Heap of what is kept of open files and of results that are pinned, before the cache gives
    /// way.
    pub(crate) files_bytes: u64,
    /// Heap of each of the background threads that builds files.
    pub(crate) builder_bytes: u64,
    /// Size at which a table ends: its builder holds some bytes an entry.
    pub(crate) table_size_bytes: u64,
}

/// Segments do not grow beyond this by themselves.
const MOST_MEMTABLE_BYTES: u64 = 64 << 20;
/// The locator of a table addresses 64 MiB.
const MOST_TABLE_BYTES: u64 = 56 << 20;

impl Options {
    /// Divides the budget on a machine with `machine_bytes` of memory: half for memtables, a
    /// quarter for the cache, an eighth for background work, an eighth for what is kept of open
    /// files and for results that are pinned; what these take beyond it the cache gives up.
    pub(crate) fn plan(&self, machine_bytes: u64) -> MemoryPlan {
        let usual = (machine_bytes / 4).clamp(4 << 20, 1 << 30);
        let budget = self.memory_budget.unwrap_or(usual);
        let explicit_backlog = self.backlog_limit_bytes.unwrap_or(u64::MAX);
        let usual = floor_power_of_two(budget / 16).clamp(64 << 10, MOST_MEMTABLE_BYTES);
        let usual = usual.min((explicit_backlog / 2).max(64 << 10));
        let memtable_size_bytes = self.memtable_size_bytes.unwrap_or(usual);
        let backlog = budget.max(2 * memtable_size_bytes);
        let memtables_heap_bytes = budget / 2;
        let builder_bytes = budget / 32;
        MemoryPlan {
            budget_bytes: budget,
            memtable_size_bytes,
            backlog_limit_bytes: self.backlog_limit_bytes.unwrap_or(backlog),
            memtables_heap_bytes,
            memtable_heap_bytes: memtables_heap_bytes / 4,
            cache_bytes: budget / 4,
            files_bytes: budget / 8,
            builder_bytes,
            table_size_bytes: (2 * builder_bytes).clamp(1 << 20, MOST_TABLE_BYTES),
        }
    }
}

fn floor_power_of_two(value: u64) -> u64 {
    value.checked_ilog2().map_or(0, |shift| 1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_usual_plan_on_machines_of_all_sizes() {
        let plan = Options::new().plan(24 * GIB);
        assert_eq!(plan.budget_bytes, GIB);
        assert_eq!((plan.memtable_size_bytes, plan.backlog_limit_bytes), (64 << 20, GIB));
        assert_eq!((plan.cache_bytes, plan.table_size_bytes), (GIB / 4, 56 << 20));
        let plan = Options::new().plan(GIB);
        assert_eq!((plan.budget_bytes, plan.memtable_size_bytes), (GIB / 4, 16 << 20));
        assert_eq!(Options::new().plan(0).budget_bytes, 4 << 20);
    }

    #[test]
    fn the_shares_are_within_the_budget() {
        for shift in 22..=40 {
            let plan = Options::new().memory_budget(1 << shift).plan(GIB);
            let beside = plan.files_bytes + 4 * plan.builder_bytes;
            let sum = plan.memtables_heap_bytes + plan.cache_bytes + beside;
            assert!(sum <= plan.budget_bytes, "{plan:?}");
            assert!(2 * plan.memtable_size_bytes <= plan.backlog_limit_bytes, "{plan:?}");
            assert!(plan.memtable_size_bytes >= 64 << 10, "{plan:?}");
        }
    }

    #[test]
    fn explicit_options_win() {
        let options = Options::new().memory_budget(64 << 20).memtable_size_bytes(1 << 30);
        let plan = options.plan(GIB);
        assert_eq!((plan.memtable_size_bytes, plan.backlog_limit_bytes), (GIB, 2 * GIB));
        assert_eq!(plan.memtables_heap_bytes, 32 << 20);
        let plan = Options::new().backlog_limit_bytes(1 << 20).plan(24 * GIB);
        assert_eq!((plan.memtable_size_bytes, plan.backlog_limit_bytes), (512 << 10, 1 << 20));
    }
}
