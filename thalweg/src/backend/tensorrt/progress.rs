//! How far a build is, from phases that nest.
//!
//! TensorRT tells when a phase starts and how many steps it has, and after each step. A phase inside another one is
//! a part of the outer one's present step.

use thalweg_nvidia::tensorrt::BuildProgress;

/// The phases that have started and not ended.
#[derive(Debug, Default)]
pub(super) struct OpenPhases(Vec<Phase>);

#[derive(Debug)]
struct Phase {
    name: String,
    parent: Option<String>,
    steps: u32,
    done: u32,
}

impl OpenPhases {
    /// Takes what TensorRT tells, and gives the innermost phase and how much of the outermost is done, from 0 to 1.
    pub fn take(&mut self, progress: BuildProgress<'_>) -> Option<(&str, f64)> {
        match progress {
            BuildProgress::Started { phase, parent, steps } => {
                let parent = parent.map(str::to_owned);
                self.0.push(Phase { name: phase.to_owned(), parent, steps, done: 0 });
            }
            BuildProgress::Step { phase, step } => {
                if let Some(open) = self.0.iter_mut().find(|open| open.name == phase) {
                    open.done = step.saturating_add(1).min(open.steps);
                }
            }
            BuildProgress::Finished { phase } => self.0.retain(|open| open.name != phase),
        }
        let outermost = self.0.iter().find(|phase| phase.parent.is_none())?;
        Some((&self.0.last()?.name, self.fraction(outermost)))
    }

    fn fraction(&self, phase: &Phase) -> f64 {
        // What several threads do at a time inside of one step counts as the furthest of them.
        let inner = self.0.iter().filter(|inner| inner.parent.as_deref() == Some(&phase.name));
        let inner = inner.map(|inner| self.fraction(inner)).fold(0.0, f64::max);
        ((f64::from(phase.done) + inner) / f64::from(phase.steps.max(1))).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_inside_another_is_a_part_of_its_present_step() {
        let mut phases = OpenPhases::default();
        let started = |phase, parent, steps| BuildProgress::Started { phase, parent, steps };
        assert_eq!(phases.take(started("all", None, 4)), Some(("all", 0.0)));
        assert_eq!(phases.take(BuildProgress::Step { phase: "all", step: 0 }), Some(("all", 0.25)));
        phases.take(started("tactics", Some("all"), 2));
        let halfway = phases.take(BuildProgress::Step { phase: "tactics", step: 0 });
        assert_eq!(halfway, Some(("tactics", 0.375)));
        phases.take(BuildProgress::Finished { phase: "tactics" });
        assert_eq!(phases.take(BuildProgress::Step { phase: "all", step: 1 }), Some(("all", 0.5)));
        assert_eq!(phases.take(BuildProgress::Finished { phase: "all" }), None);
    }

    #[test]
    fn more_steps_than_were_promised_are_not_more_than_all() {
        let mut phases = OpenPhases::default();
        phases.take(BuildProgress::Started { phase: "all", parent: None, steps: 0 });
        assert_eq!(phases.take(BuildProgress::Step { phase: "all", step: 7 }), Some(("all", 0.0)));
        phases.take(BuildProgress::Started { phase: "x", parent: Some("all"), steps: 1 });
        assert_eq!(phases.take(BuildProgress::Step { phase: "x", step: 7 }), Some(("x", 1.0)));
    }
}
