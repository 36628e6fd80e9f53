//! The way out: responses whose outputs are read in place, in order of completion or of submission.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::producer::Request;
use super::submitter::Message;
use crate::backend::{Completion, HostTensor, Outcome, Slot, SlotId, StageTimes};
use crate::error::Error;
use crate::units::Nanos;

/// A finished execution, shared by the responses of all its requests. Its slot goes back to the pool
/// when the last of them is dropped, and with it the memory for the next one's.
pub(super) struct Execution {
    /// The slot and its way home; `None` in memory that waits for the next one. That travels on the same way, which
    /// would hold on to itself if it had the other end.
    slot: Option<(Slot, Sender<Message>)>,
    outcome: Outcome,
    times: StageTimes,
    /// Those of all its requests.
    request_samples: usize,
    readable: Nanos,
    remark: Option<Arc<str>>,
}

impl Execution {
    pub(super) fn new(
        completion: Completion,
        request_samples: usize,
        readable: Nanos,
        remark: Option<Arc<str>>,
        submitter: Sender<Message>,
    ) -> Self {
        let Completion { slot, outcome, times } = completion;
        Self { slot: Some((slot, submitter)), outcome, times, request_samples, readable, remark }
    }

    /// What a finished execution is put into, in memory that another one had where there is some.
    pub(super) fn shared(self, shell: Option<Arc<Self>>) -> Arc<Self> {
        let Some(mut shell) = shell else { return Arc::new(self) };
        *Arc::get_mut(&mut shell).expect("bug: a shell has one owner") = self;
        shell
    }

    /// Gives up one share. The last one sends the slot home.
    fn let_go(mut execution: Arc<Self>) {
        let Some(last) = Arc::get_mut(&mut execution) else { return };
        if let Some((slot, home)) = last.slot.take() {
            // After a stop the submitter is gone, and the slot with it.
            drop(home.send(Message::Release { slot, shell: Some(execution) }));
        }
    }

    fn slot(&self) -> &Slot {
        &self.slot.as_ref().expect("bug: the slot leaves when the execution is dropped").0
    }
}

/// Where two threads give up the last shares at once, neither of them was the last one to look.
impl Drop for Execution {
    fn drop(&mut self) {
        if let Some((slot, home)) = self.slot.take() {
            drop(home.send(Message::Release { slot, shell: None }));
        }
    }
}

/// The answer to one request. Drop it soon: its slot is not free before.
pub struct Response {
    request: Request,
    /// `None` while it is dropped.
    execution: Option<Arc<Execution>>,
}

impl Response {
    pub(super) fn new(request: Request, execution: Arc<Execution>) -> Self {
        Self { request, execution: Some(execution) }
    }

    fn execution(&self) -> &Execution {
        self.execution.as_ref().expect("bug: it leaves when the response is dropped")
    }

    /// Whether it ran on an executor of this submitter.
    pub(super) fn is_from(&self, submitter: &Sender<Message>) -> bool {
        self.execution().slot.as_ref().is_some_and(|(_, home)| home.same_channel(submitter))
    }

    /// The slot, and the memory for its next execution; `None`, and gives up its share, where others have one too.
    pub(super) fn into_slot(mut self) -> Option<(Slot, Arc<Execution>)> {
        let mut execution = self.execution.take()?;
        let Some((slot, _)) = Arc::get_mut(&mut execution).and_then(|last| last.slot.take()) else {
            Execution::let_go(execution);
            return None;
        };
        Some((slot, execution))
    }

    /// The request's place in the order of submission.
    pub fn sequence(&self) -> u64 {
        self.request.sequence
    }

    /// What the producer committed it with.
    pub fn tag(&self) -> u64 {
        self.request.tag
    }

    /// Where it ran.
    pub fn slot(&self) -> SlotId {
        self.execution().slot().id
    }

    /// The samples of the execution that are this request's.
    pub fn samples(&self) -> Range<usize> {
        self.request.samples.clone()
    }

    /// Samples that the execution computed: more than its requests have where an engine cannot run fewer.
    pub fn batch_size(&self) -> usize {
        self.execution().slot().batch_size
    }

    /// Samples of all requests of the execution.
    pub fn request_samples(&self) -> usize {
        self.execution().request_samples
    }

    /// When it was meant to be sent.
    pub fn intended(&self) -> Nanos {
        self.request.intended
    }

    /// When it was handed to the pool.
    pub fn submitted(&self) -> Nanos {
        self.request.submitted
    }

    /// When each stage of its execution ran, as far as [`TimesTaken`](crate::backend::TimesTaken) asks for it.
    pub fn stages(&self) -> StageTimes {
        self.execution().times
    }

    /// When its outputs became readable.
    pub fn readable(&self) -> Nanos {
        self.execution().readable
    }

    /// Why it failed; `None` if its outputs are there. The inputs are kept either way.
    pub fn error(&self) -> Option<&Error> {
        match &self.execution().outcome {
            Outcome::Done => None,
            Outcome::Failed(error) | Outcome::Lost(error) => Some(error),
        }
    }

    /// Whether its stream has failed for good and runs nothing any more.
    pub fn has_lost_its_stream(&self) -> bool {
        matches!(self.execution().outcome, Outcome::Lost(_))
    }

    /// What its stream does otherwise than the pool's configuration asks, as a whole sentence.
    pub fn remark(&self) -> Option<&str> {
        self.execution().remark.as_deref()
    }

    /// The outputs of the whole execution, in the order of [`Signature::outputs`](crate::model::Signature::outputs).
    pub fn outputs(&self) -> &[HostTensor] {
        &self.execution().slot().outputs
    }

    /// The inputs of the whole execution, as they were filled.
    pub fn inputs(&self) -> &[HostTensor] {
        &self.execution().slot().inputs
    }

    /// The bytes of one output that are this request's: `[samples, ...]`, or the whole tensor where it
    /// has no batch dimension.
    ///
    /// # Panics
    /// Where there is no such output or the request failed.
    pub fn output(&self, index: usize) -> &[u8] {
        self.outputs()[index].samples(self.samples())
    }

    /// As [`output`](Self::output), seen as elements of type `T`.
    ///
    /// # Panics
    /// As there, and where the elements have another size.
    pub fn output_as<T: Pod>(&self, index: usize) -> &[T] {
        bytemuck::cast_slice(self.output(index))
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.execution.take().into_iter().for_each(Execution::let_go);
    }
}

/// The order in which responses come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As executions finish.
    Completion,
    /// As requests were committed. A response that is early keeps its slot until its turn.
    Submission,
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoResponse {
    /// None came in time.
    Yet,
    /// The pool has ended and all were taken.
    Ever,
}

/// The responses of a pool.
pub struct Responses {
    receiver: Receiver<Response>,
    order: Order,
    next_sequence: u64,
    early: BTreeMap<u64, Response>,
}

impl Responses {
    pub(super) fn new(receiver: Receiver<Response>, order: Order) -> Self {
        Self { receiver, order, next_sequence: 0, early: BTreeMap::new() }
    }

    /// The next response, if it comes within this time.
    ///
    /// # Errors
    /// [`NoResponse::Yet`] where it did not come in time, [`NoResponse::Ever`] where the pool has ended.
    pub fn next_within(&mut self, patience: Duration) -> Result<Response, NoResponse> {
        self.next_with(|receiver| receiver.recv_timeout(patience)).map_err(|error| match error {
            RecvTimeoutError::Timeout => NoResponse::Yet,
            RecvTimeoutError::Disconnected => NoResponse::Ever,
        })
    }

    fn next_with(
        &mut self,
        receive: impl Fn(&Receiver<Response>) -> Result<Response, RecvTimeoutError>,
    ) -> Result<Response, RecvTimeoutError> {
        if self.order == Order::Completion {
            return receive(&self.receiver);
        }
        loop {
            if let Some(response) = self.early.remove(&self.next_sequence) {
                self.next_sequence += 1;
                return Ok(response);
            }
            match receive(&self.receiver) {
                Ok(response) => drop(self.early.insert(response.sequence(), response)),
                // What was sent in the moment of a stop may have no answer; those behind it have theirs.
                Err(RecvTimeoutError::Disconnected) => {
                    let (sequence, response) =
                        self.early.pop_first().ok_or(RecvTimeoutError::Disconnected)?;
                    self.next_sequence = sequence + 1;
                    return Ok(response);
                }
                Err(timeout) => return Err(timeout),
            }
        }
    }
}

/// Blocks until there is a response; ends when the pool has ended and all were taken.
impl Iterator for Responses {
    type Item = Response;

    fn next(&mut self) -> Option<Response> {
        self.next_with(|receiver| receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)).ok()
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;
    use crate::backend::{self, BuildOrder, BuildSpec, Surroundings};
    use crate::model::Model;
    use crate::model::zoo::Network;
    use crate::pool::{Configuration, ExecutionPool};
    use crate::units::Clock;

    /// A way home holds on to what is on it, so nothing on it may hold on to the way: whoever should have taken it in may
    /// be gone.
    #[test]
    fn what_is_on_a_way_home_that_nobody_has_any_more_is_dropped() {
        for is_refilled in [false, true] {
            let (home, inbox) = bounded(1);
            let remark: Arc<str> = Arc::from("it goes with the execution");
            let slot = Slot {
                id: SlotId { executor: 0, index: 0 },
                batch_size: 1,
                inputs: Vec::new(),
                outputs: Vec::new(),
            };
            let completion = Completion { slot, outcome: Outcome::Done, times: StageTimes::default() };
            let time = Nanos::ZERO;
            let execution = Execution::new(completion, 1, time, Some(Arc::clone(&remark)), home.clone());
            let request = Request { sequence: 0, tag: 0, samples: 0..1, intended: time, submitted: time };
            let response = Response::new(request, Arc::new(execution));
            if is_refilled {
                let (slot, shell) = response.into_slot().unwrap();
                home.send(Message::Refill { id: slot.id, shell }).unwrap();
            } else {
                drop(response);
            }
            assert_eq!((inbox.len(), Arc::strong_count(&remark)), (1, 2), "it is on its way");
            drop((home, inbox));
            assert_eq!(Arc::strong_count(&remark), 1);
        }
    }

    #[test]
    fn in_order_of_submission_answers_behind_one_that_never_comes_come_at_the_end() {
        let backend = backend::open("cpu", &Surroundings::default()).unwrap();
        let model = Model::from_proto(Network::Launch.generate(0), "launch.onnx").unwrap();
        let spec = BuildSpec { max_batch_size: 1, ..BuildSpec::default() };
        let built = backend.build(&BuildOrder::new(&model, &spec)).unwrap();
        let configuration = Configuration { depth: 4, ..Configuration::default() };
        let pool =
            ExecutionPool::start(backend.load(&built).unwrap(), &configuration, Clock::start()).unwrap();
        for tag in 0..4 {
            pool.producer().reserve(1).unwrap().commit(tag);
        }
        let (sender, receiver) = bounded(4);
        let answered = pool.responses(Order::Completion).take(4);
        answered.filter(|response| response.sequence() != 1).for_each(|it| sender.send(it).unwrap());
        let mut responses = Responses::new(receiver, Order::Submission);
        assert_eq!(responses.next().unwrap().sequence(), 0);
        assert_eq!(responses.next_within(Duration::from_millis(1)).err(), Some(NoResponse::Yet));
        drop(sender);
        assert_eq!(responses.map(|response| response.sequence()).collect::<Vec<_>>(), [2, 3]);
    }
}
