//! Which optimization profile each execution context uses.
//!
//! From TensorRT 10 on contexts share a profile, in 8.6 those of engines that were built so. In 8.5 each context needs
//! one of its own, so engines are built with several that are alike, and only as many contexts can exist at a time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use thalweg_nvidia::tensorrt::{Engine, Family, TensorMode};

use crate::error::Result;

/// Alike profiles of an engine for contexts that cannot share one: eight streams without CUDA graphs, or four with two
/// slots and a graph for each. Each costs the build its time again.
pub(super) const UNSHARED_PROFILES: usize = 8;

/// The profiles of an engine that allow the same shapes as its first.
pub(super) struct Profiles {
    /// How many there are, where contexts cannot share one.
    unshared: Option<usize>,
    // Contended by threads that make pools of one engine at the same time.
    free: Mutex<BTreeSet<usize>>,
}

/// A profile that one context uses, until it is dropped.
pub(super) struct ProfileClaim {
    number: usize,
    /// Where it goes back to; `None` for one that is shared.
    home: Option<Arc<Profiles>>,
}

impl Profiles {
    /// Those of this engine. One of TensorRT 8 that has several alike was built for contexts that do not share.
    ///
    /// # Errors
    /// In TensorRT's words.
    pub fn of(engine: &Engine, family: Family) -> Result<Arc<Self>> {
        let inputs = engine.tensors().iter().filter(|tensor| tensor.mode == TensorMode::Input);
        let inputs: Vec<_> = inputs.filter(|tensor| tensor.shape.contains(&-1)).collect();
        let shapes = |profile| -> Result<Vec<_>> {
            inputs.iter().map(|input| Ok(engine.profile_shapes(&input.name, profile)?)).collect()
        };
        let first = shapes(0)?;
        let mut numbers = BTreeSet::from([0]);
        for profile in 1..engine.profile_count()? {
            if shapes(profile)? == first {
                numbers.insert(profile);
            }
        }
        Ok(Arc::new(Self::alike(numbers, family)))
    }

    /// These profiles of an engine. Where contexts share one it is the first, whose memory is reckoned with: profiles that
    /// allow the same shapes may differ in kernels.
    fn alike(numbers: BTreeSet<usize>, family: Family) -> Self {
        let is_unshared = family == Family::TensorRt8 && numbers.len() > 1;
        let unshared = is_unshared.then_some(numbers.len());
        let used = if is_unshared { numbers } else { BTreeSet::from([0]) };
        Self { unshared, free: Mutex::new(used) }
    }

    /// The most contexts that can exist at a time; `None` where they share their profile, as far as the engine tells.
    pub fn most_contexts(&self) -> Option<usize> {
        self.unshared
    }

    /// A profile for one context: one that no other has, or the first one, which TensorRT refuses where it cannot be
    /// shared.
    pub fn claim(self: &Arc<Self>) -> ProfileClaim {
        let taken = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
        ProfileClaim { number: taken.unwrap_or(0), home: taken.map(|_| Arc::clone(self)) }
    }
}

impl ProfileClaim {
    /// Its number in the engine.
    pub fn number(&self) -> usize {
        self.number
    }
}

impl Drop for ProfileClaim {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            home.free.lock().unwrap_or_else(PoisonError::into_inner).insert(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_context_has_its_own_profile_while_there_are_some_and_gives_it_back() {
        let profiles = Arc::new(Profiles::alike(BTreeSet::from([0, 2, 3]), Family::TensorRt8));
        assert_eq!(profiles.most_contexts(), Some(3));
        let mut claims: Vec<_> = (0..4).map(|_| profiles.claim()).collect();
        assert_eq!(claims.iter().map(ProfileClaim::number).collect::<Vec<_>>(), [0, 2, 3, 0]);
        // What was shared is nobody's to give back.
        drop(claims.pop());
        drop(claims.remove(1));
        assert_eq!(profiles.claim().number(), 2);
    }

    #[test]
    fn the_only_profile_is_shared() {
        let shared = [(BTreeSet::from([0]), Family::TensorRt8), (BTreeSet::from([0, 1]), Family::TensorRt10)];
        for (numbers, family) in shared {
            let profiles = Arc::new(Profiles::alike(numbers, family));
            assert_eq!(profiles.most_contexts(), None);
            let claims = [profiles.claim(), profiles.claim()];
            assert_eq!(claims.map(|claim| claim.number()), [0, 0]);
        }
    }
}
