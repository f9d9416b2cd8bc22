"""The publications that a methods paragraph can cite."""

from __future__ import annotations

REFERENCES = {
    "probing": "G. Alain, Y. Bengio (2017). Understanding intermediate layers using linear classifier probes. ICLR workshop.",
    "mass-mean": "S. Marks, M. Tegmark (2024). The geometry of truth: emergent linear structure in large language model representations of true/false datasets. COLM.",
    "llava15": "H. Liu, C. Li, Y. Li, Y. J. Lee (2024). Improved baselines with visual instruction tuning. CVPR.",
    "qwen2": "P. Wang et al. (2024). Qwen2-VL: enhancing vision-language model's perception of the world at any resolution. arXiv:2409.12191.",
    "spatialrgpt": "A.-C. Cheng et al. (2024). SpatialRGPT: grounded spatial reasoning in vision-language models. NeurIPS.",
    "4bit": "T. Dettmers, A. Pagnoni, A. Holtzman, L. Zettlemoyer (2023). QLoRA: efficient finetuning of quantized LLMs. NeurIPS.",
    "8bit": "T. Dettmers, M. Lewis, Y. Belkada, L. Zettlemoyer (2022). LLM.int8(): 8-bit matrix multiplication for transformers at scale. NeurIPS.",
    "adapter": "E. J. Hu et al. (2022). LoRA: low-rank adaptation of large language models. ICLR.",
    "lda": "R. A. Fisher (1936). The use of multiple measurements in taxonomic problems. Annals of Eugenics 7.",
    "shrinkage": "O. Ledoit, M. Wolf (2004). A well-conditioned estimator for large-dimensional covariance matrices. Journal of Multivariate Analysis 88.",
    "pca": "H. Hotelling (1933). Analysis of a complex of statistical variables into principal components. Journal of Educational Psychology 24.",
    "contrastive": "C. Min, J. Jung, D. Lee, H. Jeon, Y. Su, J. Tremblay, C. H. Song, J. Park (2026). Why far looks up: probing spatial representation in vision-language models. arXiv:2605.30161.",
    "bootstrap": "B. Efron, R. J. Tibshirani (1993). An introduction to the bootstrap. Chapman & Hall.",
    "wilson": "E. B. Wilson (1927). Probable inference, the law of succession, and statistical inference. Journal of the American Statistical Association 22.",
    "holm": "S. Holm (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6.",
    "intervals": "N. Dean, M. Pagano (2015). Evaluating confidence interval methods for binomial proportions in clustered surveys. Journal of Survey Statistics and Methodology 3.",
    "folds": "S. Bates, T. Hastie, R. Tibshirani (2024). Cross-validation: what does it estimate and how well does it do it? Journal of the American Statistical Association 119.",
    "folds bound": "C. Nadeau, Y. Bengio (2003). Inference for the generalization error. Machine Learning 52.",
    "maximum": "P. H. Westfall, S. S. Young (1993). Resampling-based multiple testing. Wiley.",
    "within": "A. Janssen (1997). Studentized permutation tests for non-i.i.d. hypotheses and the generalized Behrens-Fisher problem. Statistics & Probability Letters 36.",
    "controls": "J. Hewitt, P. Liang (2019). Designing and interpreting probes with control tasks. EMNLP.",
    "code": "E. Voita, I. Titov (2020). Information-theoretic probing with minimum description length. EMNLP.",
    "corrected": "A. Holtzman, P. West, V. Shwartz, Y. Choi, L. Zettlemoyer (2021). Surface form competition: why the highest probability answer isn't always right. EMNLP.",
    "lens": "nostalgebraist (2020). Interpreting GPT: the logit lens. LessWrong.",
    "transformers": "T. Wolf et al. (2020). Transformers: state-of-the-art natural language processing. EMNLP: system demonstrations.",
    "torch": "A. Paszke et al. (2019). PyTorch: an imperative style, high-performance deep learning library. NeurIPS.",
    "scikit-learn": "F. Pedregosa et al. (2011). Scikit-learn: machine learning in Python. Journal of Machine Learning Research 12.",
}  # fmt: skip
