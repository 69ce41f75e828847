//! Which entry an operation is about: uniform, zipfian and latest, as YCSB has them.

use crate::data::mix;

/// YCSB's constant.
const THETA: f64 = 0.99;

/// A small generator of random words: one per thread, the same for every engine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Another seed gives other words.
    pub(crate) fn new(seed: u64) -> Random {
        Random(mix(seed ^ 0x0b5e_55ed))
    }

    /// The next word.
    #[inline]
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// A number below `count`.
    #[inline]
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(count)) >> 64) as u64
    }

    /// A number in 0..1.
    #[inline]
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The zipfian distribution over 0..count, by the method of Gray et al. ("Quickly generating
/// billion-record synthetic databases", 1994) that YCSB uses: rank 0 is the most frequent.
#[derive(Clone, Debug)]
pub(crate) struct Zipfian {
    count: u64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipfian {
    /// Sums up `count` terms: milliseconds for a million.
    pub(crate) fn new(count: u64) -> Zipfian {
        let zeta = zeta(count);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - zeta_2() / zeta);
        Zipfian { count, alpha: 1.0 / (1.0 - THETA), zeta, eta }
    }

    /// A rank.
    #[inline]
    pub(crate) fn rank(&self, random: &mut Random) -> u64 {
        let u = random.fraction();
        let scaled = u * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < zeta_2() {
            return 1;
        }
        let rank = self.count as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count - 1)
    }
}

fn zeta_2() -> f64 {
    1.0 + 0.5f64.powf(THETA)
}

fn zeta(count: u64) -> f64 {
    (1..=count).map(|rank| (rank as f64).powf(-THETA)).sum()
}

/// How requests are spread over the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Spread {
    /// Few entries get most requests; which ones has nothing to do with their keys.
    Zipfian,
    /// All alike.
    Uniform,
    /// The newest entries get most.
    Latest,
}

/// Chooses entries of a set that may grow.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    spread: Spread,
    zipfian: Zipfian,
}

impl Chooser {
    /// For a set of so many entries at the start.
    pub(crate) fn new(spread: Spread, count: u64) -> Chooser {
        Chooser { spread, zipfian: Zipfian::new(count) }
    }

    /// The number of an entry below `count`, which is at least the count at the start.
    #[inline]
    pub(crate) fn choose(&self, random: &mut Random, count: u64) -> u64 {
        match self.spread {
            Spread::Uniform => random.below(count),
            Spread::Zipfian => {
                let rank = self.zipfian.rank(random);
                ((u128::from(mix(rank ^ 0x5ca7_7e2e)) * u128::from(count)) >> 64) as u64
            }
            Spread::Latest => count - 1 - self.zipfian.rank(random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipfian_ranks_are_as_frequent_as_the_formula_says() {
        let (count, draws) = (1_000, 400_000);
        let zipfian = Zipfian::new(count);
        let mut random = Random::new(1);
        let mut seen = vec![0u64; count as usize];
        for _ in 0..draws {
            seen[zipfian.rank(&mut random) as usize] += 1;
        }
        let share = |ranks: std::ops::Range<u64>| -> (f64, f64) {
            let drawn: u64 = ranks.clone().map(|rank| seen[rank as usize]).sum();
            let formula: f64 = ranks.map(|rank| ((rank + 1) as f64).powf(-THETA)).sum();
            (drawn as f64 / draws as f64, formula / zeta(count))
        };
        // The method is exact for the first two and an approximation for the others.
        for (ranks, tolerance) in [(0..1, 0.02), (1..2, 0.03), (2..10, 0.15), (10..1_000, 0.06)] {
            let (drawn, formula) = share(ranks.clone());
            assert!((drawn / formula - 1.0).abs() < tolerance, "{ranks:?}: {drawn} {formula}");
        }
    }

    #[test]
    fn the_latest_are_chosen_most_and_follow_growth() {
        let chooser = Chooser::new(Spread::Latest, 1_000);
        let mut random = Random::new(2);
        let draws: Vec<u64> = (0..10_000).map(|_| chooser.choose(&mut random, 1_500)).collect();
        let newest = draws.iter().filter(|number| **number == 1_499).count();
        let expected = 10_000.0 / zeta(1_000);
        assert!((newest as f64 / expected - 1.0).abs() < 0.1, "{newest} {expected}");
        assert!(draws.iter().all(|number| (500..1_500).contains(number)));
    }

    #[test]
    fn zipfian_choices_are_scattered_and_uniform_ones_even() {
        let mut random = Random::new(3);
        let chooser = Chooser::new(Spread::Zipfian, 1_000);
        let low = (0..10_000).filter(|_| chooser.choose(&mut random, 1_000) < 500).count();
        assert!((2_000..8_000).contains(&low), "{low}");
        let chooser = Chooser::new(Spread::Uniform, 1_000);
        let low = (0..10_000).filter(|_| chooser.choose(&mut random, 1_000) < 500).count();
        assert!((4_800..5_200).contains(&low), "{low}");
    }
}
