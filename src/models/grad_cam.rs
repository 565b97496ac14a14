//! Grad-CAM (Selvaraju et al. 2017): where in an image a network sees the evidence for an output.

use super::{Model, Parts};
use crate::{
    Result,
    nn::{Mode, Pass},
    ops::resample::bilinear,
    tensor::Tensor,
};

impl Model {
    /// Where `images` `[n, h, w, channels]` hold the evidence for y = ⟨`direction`, outputs⟩, `direction` being `[n, outputs]`:
    /// a one at a class asks for that class, a minus one for what speaks against it. With A the feature map that the head
    /// reads and α_k the mean of ∂y/∂A_k over the map it is ReLU(Σ_k α_k A_k), enlarged bilinearly: `[n, h, w]`, at least 0,
    /// in units of y. `None` of a network with outputs for each pixel.
    ///
    /// # Errors
    /// A failure of the device.
    #[track_caller]
    pub fn grad_cam(&self, images: &Tensor, direction: &[f64]) -> Result<Option<Vec<f64>>> {
        let Parts::Classifier(classifier) = &self.network else { return Ok(None) };
        let (before, after) = (self.pass(Mode::Eval), Pass::with_recording(&self.params, Mode::Eval, true));
        let images = on(&before, images)?;
        let map = classifier.encoder.features(&before, &images).maps.pop().expect("an encoder has maps");
        let map = on(&after, &map)?.leaf();
        let scores = classifier.head.scores(&after, &map);
        let direction = after.tape().floats(scores.shape(), scores.dtype(), direction);
        let grads = after.tape().backward_from(&scores, direction)?;
        let gradients = grads.of(&map).expect("scores depend on the map").to_vec()?;
        let &[n, height, width, channels] = map.shape() else { unreachable!("a map has four axes") };
        let area = height * width;
        let maps = map.to_vec()?;
        let image = area * channels;
        let weighted = maps.chunks_exact(image).zip(gradients.chunks_exact(image)).flat_map(|(map, gradient)| {
            let mean = |k: usize| gradient.iter().skip(k).step_by(channels).sum::<f64>() / area as f64;
            let alpha: Vec<f64> = (0..channels).map(mean).collect();
            let at = |pixel: &[f64]| pixel.iter().zip(&alpha).map(|(a, alpha)| a * alpha).sum::<f64>().max(0.0);
            map.chunks_exact(channels).map(at).collect::<Vec<f64>>()
        });
        let weighted: Vec<f64> = weighted.collect();
        let size = (images.shape()[1], images.shape()[2]);
        let coarse = before.tape().floats(&[n, height, width, 1], self.params.dtype().wide(), &weighted);
        bilinear(&coarse, size, false).to_vec().map(Some)
    }
}

/// `tensor` on the tape of `pass`.
fn on(pass: &Pass, tensor: &Tensor) -> Result<Tensor> {
    tensor.tape().check()?;
    let block = tensor.block().expect("a tape without errors has memory");
    Ok(pass.tape().wrap(tensor.shape(), tensor.dtype(), block))
}
