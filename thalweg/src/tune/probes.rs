//! Which candidates are measured before predictions count.
//!
//! In: the candidates. Out: a few of them, in order. What follows from their slices is left to `explore.rs`.

use crate::backend::CudaGraph;
use crate::pool::Configuration;

/// So many streams are many: more of them take longer to make than they tell, and their gain follows from these.
const MANY: usize = 8;

/// What tells most, in this order: one stream at a medium, the smallest and the largest batch; many streams at the
/// medium and, since a small batch may fit into caches that a larger one does not, at the smallest; and one stream
/// without a graph. Where there is a single batch size, two streams come before many, which may lose what those gain
/// (BERT-base at batch 16 on an H200: 10,200 inferences/s with one, 12,700 with two and 10,100 with eight); where there
/// are several, many streams are probed at two of them, and one probe more costs the search more than it tells.
///
/// Only candidates for which `may_run` holds are probed.
pub(super) fn probes(candidates: &[Configuration], may_run: impl Fn(&Configuration) -> bool) -> Vec<usize> {
    let allowed: Vec<usize> = (0..candidates.len()).filter(|index| may_run(&candidates[*index])).collect();
    let all = || allowed.iter().map(|index| &candidates[*index]);
    let mut batches: Vec<usize> = all().map(|candidate| candidate.batch_size).collect();
    batches.sort_unstable();
    batches.dedup();
    let (Some(&smallest), Some(&largest)) = (batches.first(), batches.last()) else { return Vec::new() };
    let medium = batches[batches.len() / 2];
    let streams = all().map(|candidate| candidate.streams).filter(|streams| *streams <= MANY).max();
    let streams = streams.unwrap_or(MANY);
    let graphs = [CudaGraph::Compute, CudaGraph::Copies, CudaGraph::Off];
    let has = |kind: &CudaGraph| all().any(|candidate| candidate.cuda_graph == *kind);
    let graph = graphs.into_iter().find(has).unwrap_or_default();
    let few = if smallest == largest { 2 } else { streams };
    let wanted = [
        (1, medium, graph),
        (1, smallest, graph),
        (1, largest, graph),
        (few, medium, graph),
        (streams, medium, graph),
        (streams, smallest, graph),
        (1, smallest, CudaGraph::Off),
    ];
    let mut probes: Vec<usize> = Vec::new();
    for (streams, batch_size, cuda_graph) in wanted {
        let wanted = Configuration { streams, batch_size, cuda_graph, ..Configuration::default() };
        let nearest = allowed.iter().copied().min_by_key(|index| difference(&candidates[*index], &wanted));
        probes.extend(nearest.filter(|probe| !probes.contains(probe)));
    }
    probes
}

/// How much a candidate differs from what is wanted: first in what is probed, then in the rest.
fn difference(candidate: &Configuration, wanted: &Configuration) -> [usize; 5] {
    [
        usize::from(candidate.cuda_graph != wanted.cuda_graph),
        candidate.batch_size.abs_diff(wanted.batch_size),
        candidate.streams.abs_diff(wanted.streams),
        candidate.depth.abs_diff(wanted.depth),
        candidate.submitters.abs_diff(wanted.submitters),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::synthetic_gpu::space;

    fn probed(may_run: impl Fn(&Configuration) -> bool) -> Vec<(usize, usize, CudaGraph)> {
        let space = space();
        let probe = |it: &Configuration| (it.streams, it.batch_size, it.cuda_graph);
        probes(&space, may_run).into_iter().map(|index| probe(&space[index])).collect()
    }

    #[test]
    fn the_probes_are_six_different_candidates() {
        let graph = CudaGraph::Compute;
        assert_eq!(
            probed(|_| true),
            [
                (1, 16, graph),
                (1, 1, graph),
                (1, 128, graph),
                (8, 16, graph),
                (8, 1, graph),
                (1, 1, CudaGraph::Off)
            ]
        );
    }

    #[test]
    fn of_a_single_batch_size_two_streams_are_probed_before_many() {
        let graph = CudaGraph::Compute;
        let wanted = [(1, 16, graph), (2, 16, graph), (8, 16, graph), (1, 16, CudaGraph::Off)];
        assert_eq!(probed(|candidate| candidate.batch_size == 16), wanted);
    }

    #[test]
    fn many_are_eight_where_more_may_be_asked_for_and_the_most_where_there_are_fewer() {
        let most = |streams: &[usize]| {
            let of = |streams: &usize| Configuration { streams: *streams, ..Configuration::default() };
            let space: Vec<_> = streams.iter().map(of).collect();
            probes(&space, |_| true).into_iter().map(|index| space[index].streams).max()
        };
        assert_eq!(most(&[1, 2, 4, 8, 16, 32]), Some(8));
        assert_eq!(most(&[1, 2, 4]), Some(4));
        assert_eq!(most(&[16, 32]), Some(16), "none is so few");
    }

    #[test]
    fn where_no_graph_runs_candidates_without_one_are_probed() {
        let plain = CudaGraph::Off;
        let wanted = [(1, 16, plain), (1, 1, plain), (1, 128, plain), (8, 16, plain), (8, 1, plain)];
        assert_eq!(probed(|candidate| candidate.cuda_graph == plain), wanted);
    }
}
