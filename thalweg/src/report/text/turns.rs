//! The texts for what was measured in turns: a pool beside a bare loop, and two pools on one device.

use super::{Fact, Style, Tone, facts, wrap};
use crate::measure::{Interference, InterferenceTurn, Neighbours, Overhead, OverheadTurn, Pace, stats};
use crate::report::wording::{self, NONE};
use crate::units::Nanos;

/// What a pool costs, as text of at most 80 columns.
pub fn text_of_overhead(overhead: &Overhead, style: Style) -> String {
    let ratio = |estimate: &Option<_>| estimate.as_ref().map_or_else(|| NONE.to_owned(), wording::times);
    let verdict = format!(
        "{}: {} the executions per second of a bare loop, with {} its CPU time for each",
        overhead.configuration,
        ratio(&overhead.throughput),
        ratio(&overhead.host_cpu)
    );
    let pace = |of: fn(&OverheadTurn) -> Pace| {
        let paces: Vec<Pace> = overhead.turns.iter().map(of).collect();
        let mean = |value: &dyn Fn(&Pace) -> f64| stats::mean(&paces.iter().map(value).collect::<Vec<_>>());
        let switches = paces.iter().filter_map(|pace| pace.context_switches).collect::<Vec<_>>();
        format!(
            "{} executions/s, {} of CPU time and {} context switches for each",
            wording::number(mean(&|pace| pace.executions_per_s)),
            Nanos::from_seconds(mean(&|pace| pace.host_cpu.as_seconds())),
            wording::number(stats::mean(&switches))
        )
    };
    let mut lines =
        vec![Fact::new("pool", pace(|turn| turn.pool)), Fact::new("bare loop", pace(|turn| turn.bare))];
    lines.push(Fact::new(
        "stage times",
        match &overhead.stage_times {
            Some(ratio) => {
                format!("the loop runs {} as fast while it takes them by events", wording::times(ratio))
            }
            None => "what taking them costs was not measured".to_owned(),
        },
    ));
    style.paint_lines(Tone::Bold, &wrap(&verdict, 80)) + "\n" + &facts(lines, style)
}

/// What two pools leave each other, as text of at most 80 columns.
pub fn text_of_neighbours(neighbours: &Neighbours, style: Style) -> String {
    let ratios = neighbours.pools.iter().map(|pool| pool.ratio.as_ref().map_or(f64::NAN, |it| it.value));
    let verdict =
        format!("Together they do {} times what they would in turns", wording::number(ratios.sum::<f64>()));
    let names = ["first", "second"];
    let lines = names.iter().zip(&neighbours.pools).map(|(name, pool)| Fact::new(name, interference(pool)));
    style.paint_lines(Tone::Bold, &wrap(&verdict, 80)) + "\n" + &facts(lines, style)
}

fn interference(pool: &Interference) -> String {
    let mean = |value: &dyn Fn(&InterferenceTurn) -> f64| {
        stats::mean(&pool.turns.iter().map(value).collect::<Vec<_>>())
    };
    format!(
        "{}, {}: {} times its own {} inferences/s, p50 {} instead of {}",
        wording::printable(&pool.model.path.display().to_string()),
        pool.configuration,
        pool.ratio.as_ref().map_or_else(
            || NONE.to_owned(),
            |it| {
                format!(
                    "{} ({} to {})",
                    wording::number(it.value),
                    wording::number(it.lower),
                    wording::number(it.upper)
                )
            }
        ),
        wording::number(mean(&|turn| turn.alone_inferences_per_s)),
        Nanos::from_seconds(mean(&|turn| turn.beside_p50.as_seconds())),
        Nanos::from_seconds(mean(&|turn| turn.alone_p50.as_seconds()))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn the_cost_of_a_pool_is_told_first() {
        let measured = samples::measurement(samples::configuration(4, 2), 100);
        let pace = |executions_per_s, cpu| Pace {
            executions_per_s,
            host_cpu: Nanos(cpu),
            context_switches: Some(1.5),
        };
        let turn = |speed| OverheadTurn {
            pool: pace(0.95 * speed, 12_000),
            bare: pace(speed, 10_000),
            timed: pace(0.99 * speed, 10_100),
            counters: None,
        };
        let overhead = Overhead {
            model: measured.model,
            device: measured.device,
            configuration: measured.configuration,
            turns: [100.0, 110.0, 120.0].map(turn).to_vec(),
            throughput: stats::paired_ratio(&[(0.95, 1.0), (0.95, 1.0), (0.95, 1.0)]),
            host_cpu: stats::paired_ratio(&[(1.2, 1.0), (1.2, 1.0), (1.2, 1.0)]),
            stage_times: stats::paired_ratio(&[(0.99, 1.0), (0.98, 1.0), (0.99, 1.0)]),
        };
        let text = text_of_overhead(&overhead, Style::Plain);
        assert!(text.starts_with("4 streams x batch 2"), "{text}");
        assert!(text.replace('\n', " ").contains("0.95 times"), "{text}");
        assert!(text.contains("stage times  the loop runs 0.99 times"), "{text}");
        assert!(text.contains("12.0 us of CPU time and 1.50 context switches"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn two_pools_are_told_what_they_leave_each_other() {
        let measured = samples::measurement(samples::configuration(4, 2), 100);
        let turn = InterferenceTurn {
            alone_inferences_per_s: 1_000.0,
            beside_inferences_per_s: 600.0,
            alone_p50: Nanos(1_000_000),
            beside_p50: Nanos(1_700_000),
        };
        let pool = Interference {
            model: measured.model,
            configuration: measured.configuration,
            turns: vec![turn; 3],
            ratio: stats::paired_ratio(&[(0.6, 1.0), (0.6, 1.0)]),
        };
        let neighbours =
            Neighbours { device: measured.device, pools: [pool.clone(), pool], counters: vec![None; 3] };
        let text = text_of_neighbours(&neighbours, Style::Plain);
        assert!(text.starts_with("Together they do 1.20 times"), "{text}");
        assert!(text.replace('\n', " ").contains("1.70 ms"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
