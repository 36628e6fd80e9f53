//! How a lower precision reaches a builder, for `build` and `tune`: as a flag, or by converting the model.

use anyhow::ensure;
use thalweg::backend::{Backend, Precision};
use thalweg::precision::{HalfType, Route, RouteTaken};

use crate::args::{PrecisionRoute, QuantizationArgs, Rest, SelectionArgs, Target};

/// What the choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct RouteQuestion {
    pub target: Target,
    /// What the user said.
    pub asked: Option<PrecisionRoute>,
    /// Whether layers compute in the types of the model alone.
    pub by_types: bool,
    /// Whether layers can compute in BF16 at all.
    pub takes_bf16: bool,
    /// What the nodes that eight bits leave are to become, where the user said.
    pub rest: Option<Rest>,
    /// Why a flag will not do, where something else was asked for that only a conversion can do.
    pub needs_conversion: Option<&'static str>,
}

impl RouteQuestion {
    /// The question for a backend, when nothing else was said.
    pub fn of(target: Target, backend: &dyn Backend) -> Self {
        Self {
            target,
            asked: None,
            by_types: backend.takes_types_from_model(),
            takes_bf16: backend.takes_bf16(),
            rest: None,
            needs_conversion: None,
        }
    }

    /// The way to take; `None` for FP32, which needs none.
    ///
    /// # Errors
    /// Where there is no such way, or not with all that was asked for.
    pub fn answer(&self) -> anyhow::Result<Option<RouteTaken>> {
        let target = self.target;
        let has_flag = matches!(target, Target::Half(_) | Target::Int8);
        ensure!(
            self.asked.is_none() || has_flag,
            "--precision-route is for --precision fp16, bf16 and int8: {target} has one way only"
        );
        ensure!(
            self.takes_bf16 || target != Target::Half(HalfType::Bf16),
            "TensorRT 8 has no BF16: use --precision fp16, or auto with --max-loss where FP16 loses too much, or TensorRT 10 or later"
        );
        let rest = self.rest.filter(|_| target.has_int8());
        ensure!(
            self.takes_bf16 || rest != Some(Rest::Half(HalfType::Bf16)),
            "TensorRT 8 has no BF16: use --rest fp16, or TensorRT 10 or later"
        );
        if target == Target::Fp32 {
            return Ok(None);
        }
        let caveat = |route| (route == Route::Onnx && !self.by_types).then(|| self.wish());
        let taken = |route, reason: &str| {
            Ok(Some(RouteTaken { route, reason: reason.to_owned(), caveat: caveat(route) }))
        };
        match (self.asked, self.needs_conversion) {
            (Some(PrecisionRoute::Flags), Some(why)) => {
                anyhow::bail!("{why}: leave --precision-route out, or say onnx")
            }
            (Some(PrecisionRoute::Flags), None) => taken(Route::Flags, "that was asked for"),
            _ if self.by_types => taken(Route::Onnx, "this TensorRT takes the types of the model alone"),
            (Some(PrecisionRoute::Onnx), _) => taken(Route::Onnx, "that was asked for"),
            (None, Some(why)) => taken(Route::Onnx, why),
            (None, None) if has_flag => {
                taken(Route::Flags, "this TensorRT has one and then chooses the layers by their time")
            }
            (None, None) => taken(Route::Onnx, "a builder's flag cannot choose nodes by what they lose"),
        }
    }

    /// What becomes of FP32 in a converted model where the builder has flags: the converted part needs one, and that holds
    /// for all layers.
    fn wish(&self) -> String {
        let has_bf16_rest = self.target.has_int8() && self.rest == Some(Rest::Half(HalfType::Bf16));
        let half = match self.target {
            Target::Half(HalfType::Bf16) => "BF16",
            // The flags of eight bits have FP16 in any case.
            _ if has_bf16_rest => "FP16 or BF16",
            _ => "FP16",
        };
        format!(
            "this TensorRT takes the types of the file as a wish: layers that were kept in FP32 may run in {half}"
        )
    }
}

/// Why a flag will not do, where options ask for what only a conversion of the model can do.
pub fn needs_conversion(
    target: Target,
    quantization: &QuantizationArgs,
    selection: &SelectionArgs,
) -> Option<&'static str> {
    match () {
        () if selection.selection().is_given() => {
            Some("--keep-f32 and --only name nodes, of which a builder's flag knows nothing")
        }
        () if target.has_int8() && quantization.are_given() => Some(QuantizationArgs::PURPOSE),
        () => None,
    }
}

/// What becomes of the nodes that eight bits leave: half, unless a flag of the builder allows that anyway.
pub fn default_rest(backend: &dyn Backend) -> Rest {
    if backend.takes_types_from_model() { Rest::Half(HalfType::Fp16) } else { Rest::Fp32 }
}

/// What the flags of a builder allow: the precision itself where it goes by a flag, else the lowest one that the converted
/// model has, where that needs a flag too. Beside eight bits the `tensorrt` backend allows FP16 in any case, and BF16
/// where it finds that in the model.
pub fn allowed(target: Target, route: Option<Route>, by_types: bool) -> Precision {
    match route {
        None => Precision::Fp32,
        Some(Route::Onnx) if by_types => Precision::Fp32,
        Some(_) => target.flag().unwrap_or(Precision::Int8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FP16: Target = Target::Half(HalfType::Fp16);
    const BF16: Target = Target::Half(HalfType::Bf16);

    /// The question for a version of TensorRT.
    fn question(target: Target, version: u32) -> RouteQuestion {
        let (asked, needs_conversion) = (None, None);
        RouteQuestion {
            target,
            asked,
            by_types: version > 10,
            takes_bf16: version > 8,
            rest: None,
            needs_conversion,
        }
    }

    fn route(question: RouteQuestion) -> Option<Route> {
        let taken = question.answer().unwrap();
        assert!(taken.as_ref().is_none_or(|taken| !taken.reason.is_empty()));
        taken.map(|taken| taken.route)
    }

    #[test]
    fn versions_with_flags_are_given_flags_and_others_another_model() {
        for target in [FP16, Target::Int8] {
            let routes = [8, 10, 11].map(|version| route(question(target, version)).unwrap());
            assert_eq!(routes, [Route::Flags, Route::Flags, Route::Onnx]);
        }
        assert_eq!(route(question(Target::Auto, 10)), Some(Route::Onnx));
        assert_eq!(route(question(Target::Fp32, 11)), None);
    }

    #[test]
    fn bf16_is_a_flag_of_10_and_refused_for_8_with_what_to_do_instead() {
        assert_eq!(route(question(BF16, 10)), Some(Route::Flags));
        assert_eq!(route(question(BF16, 11)), Some(Route::Onnx));
        let refused = question(BF16, 8).answer().unwrap_err().to_string();
        assert!(refused.contains("TensorRT 8 has no BF16: use --precision fp16"), "{refused}");
    }

    #[test]
    fn what_eight_bits_leave_is_no_bf16_on_8() {
        let rest = |half, target, version| {
            RouteQuestion { rest: Some(Rest::Half(half)), ..question(target, version) }.answer()
        };
        for target in [Target::Int8, Target::Auto] {
            let refused = rest(HalfType::Bf16, target, 8).unwrap_err().to_string();
            assert!(refused.contains("TensorRT 8 has no BF16: use --rest fp16"), "{refused}");
            assert!(rest(HalfType::Bf16, target, 10).is_ok() && rest(HalfType::Fp16, target, 8).is_ok());
        }
        // Beside engines in eight bits there may be others, which leave nothing.
        assert!(rest(HalfType::Bf16, Target::Fp32, 8).is_ok() && rest(HalfType::Bf16, FP16, 8).is_ok());
    }

    #[test]
    fn what_was_asked_for_counts_unless_it_contradicts_itself() {
        let asked = |asked| RouteQuestion { asked: Some(asked), ..question(FP16, 10) };
        assert_eq!(route(asked(PrecisionRoute::Onnx)), Some(Route::Onnx));
        assert_eq!(
            route(RouteQuestion { by_types: true, ..asked(PrecisionRoute::Flags) }),
            Some(Route::Flags)
        );
        let needs_conversion = Some("--only names nodes");
        assert_eq!(route(RouteQuestion { needs_conversion, ..question(FP16, 10) }), Some(Route::Onnx));
        let both = RouteQuestion { needs_conversion, ..asked(PrecisionRoute::Flags) };
        assert!(both.answer().unwrap_err().to_string().starts_with("--only names nodes"));
        let fp32 = RouteQuestion { target: Target::Fp32, ..asked(PrecisionRoute::Onnx) };
        assert!(fp32.answer().is_err());
    }

    #[test]
    fn where_there_are_flags_fp32_in_a_converted_model_is_told_to_be_a_wish() {
        let needs_conversion = Some("--keep-f32 names nodes");
        let caveat = |target, version| {
            let question = RouteQuestion { needs_conversion, ..question(target, version) };
            question.answer().unwrap().unwrap().caveat
        };
        for version in [8, 10] {
            assert!(caveat(FP16, version).unwrap().ends_with("kept in FP32 may run in FP16"));
            assert!(caveat(Target::Auto, version).unwrap().ends_with("kept in FP32 may run in FP16"));
        }
        assert!(caveat(BF16, 10).unwrap().ends_with("may run in BF16"));
        for (target, half) in [(Target::Int8, "FP16 or BF16"), (Target::Auto, "FP16 or BF16"), (FP16, "FP16")]
        {
            let rest = Some(Rest::Half(HalfType::Bf16));
            let question = RouteQuestion { needs_conversion, rest, ..question(target, 10) };
            let told = question.answer().unwrap().unwrap().caveat.unwrap();
            assert!(told.ends_with(&format!("may run in {half}")), "{told}");
        }
        assert_eq!(caveat(FP16, 11), None);
        let flag = question(FP16, 10).answer().unwrap().unwrap();
        assert_eq!((flag.route, flag.caveat), (Route::Flags, None));
    }

    #[test]
    fn flags_allow_what_the_converted_model_has_where_there_are_flags() {
        assert_eq!(allowed(BF16, Some(Route::Flags), false), Precision::Bf16);
        assert_eq!(allowed(BF16, Some(Route::Onnx), false), Precision::Bf16);
        assert_eq!(allowed(Target::Auto, Some(Route::Onnx), false), Precision::Int8);
        assert_eq!(allowed(Target::Auto, Some(Route::Onnx), true), Precision::Fp32);
        assert_eq!(allowed(FP16, Some(Route::Flags), true), Precision::Fp16);
    }
}
