"""Which package has a module, for well-known packages that are not called like their modules.

The names are those of the packages' own wheels on https://pypi.org. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

_IRREGULAR = """
absl-py: absl
antlr4-python3-runtime: antlr4
attrs: attr attrs
azure-core: azure
beautifulsoup4: bs4
boto3: boto3
cffi: cffi _cffi_backend
charset-normalizer: charset_normalizer
cupy-cuda12x: cupy cupyx
cupy-cuda13x: cupy cupyx
dm-control: dm_control
dm-env: dm_env
dm-haiku: haiku
dm-sonnet: sonnet
dm-tree: tree
faiss-cpu: faiss
faiss-gpu: faiss
fonttools: fontTools
gitpython: git
google-api-core: google
google-auth: google google_auth_httplib2
google-cloud-bigquery: google
google-cloud-core: google
google-cloud-storage: google
google-crc32c: google_crc32c
google-resumable-media: google
google-tunix: tunix
googleapis-common-protos: google
grpcio: grpc
huggingface-hub: huggingface_hub
hydra-core: hydra hydra_plugins
intel-openmp: intel_openmp
jax-cuda12-pjrt: jax_plugins
jax-cuda12-plugin: jax_cuda12_plugin
jax-cuda13-pjrt: jax_plugins
jax-cuda13-plugin: jax_cuda13_plugin
jinja2: jinja2
levenshtein: Levenshtein
lightning: lightning lightning_fabric
markupsafe: markupsafe
matplotlib: matplotlib mpl_toolkits pylab
msgpack: msgpack
mysqlclient: MySQLdb
opencv-contrib-python: cv2
opencv-contrib-python-headless: cv2
opencv-python: cv2
opencv-python-headless: cv2
openai-whisper: whisper
opentelemetry-api: opentelemetry
orbax-checkpoint: orbax
orbax-export: orbax
pillow: PIL
pillow-simd: PIL
proto-plus: proto
protobuf: google
psycopg2: psycopg2
psycopg2-binary: psycopg2
pyarrow: pyarrow
pycryptodome: Crypto
pycryptodomex: Cryptodome
pyjwt: jwt
pymupdf: fitz pymupdf
pyopengl: OpenGL
pyopenssl: OpenSSL
pyserial: serial
python-dateutil: dateutil
python-docx: docx
python-dotenv: dotenv
python-pptx: pptx
pytorch-lightning: pytorch_lightning lightning_fabric
pyyaml: yaml _yaml
pyzmq: zmq
ruamel-yaml: ruamel
scikit-image: skimage
scikit-learn: sklearn
scikit-optimize: skopt
sentence-transformers: sentence_transformers
sentencepiece: sentencepiece
setuptools: setuptools pkg_resources
tb-nightly: tensorboard
tensorboard: tensorboard
tensorflow: tensorflow
tensorflow-cpu: tensorflow
tensorflow-gpu: tensorflow
tensorflow-intel: tensorflow
tensorflow-tpu: tensorflow
tf-nightly: tensorflow
tf-nightly-cpu: tensorflow
tensorflow-datasets: tensorflow_datasets
tfds-nightly: tensorflow_datasets
keras: keras
keras-nightly: keras
torch: torch torchgen functorch
torch-xla: torch_xla
typing-extensions: typing_extensions
umap-learn: umap
vllm: vllm
vllm-tpu: vllm
websocket-client: websocket
"""

_REGULAR = """
accelerate aiohttp albumentations anndata arviz bambi bitsandbytes blackjax certifi chex click
cloudpickle cryptography cython dask datasets deepspeed diffrax diffusers distrax einops equinox
evaluate fastapi filelock fire flax fsspec gcsfs gpytorch gradio grain gymnasium h5py httpx humanize
idna imageio joblib jax jaxlib jaxtyping jraph kagglehub keras-hub keras-tuner langchain libtpu
librosa lightgbm lxml ml-dtypes mlflow mujoco networkx nltk numba numpy numpyro omegaconf onnx
onnxruntime openai openpyxl opt-einsum optax optuna optimum packaging pandas peft plotly polars
prefect psutil pyasn1 pyasn1-modules pycparser pydantic pymc pyro-ppl pytest ray requests rich
safetensors scanpy scipy seaborn shap six soundfile spacy sqlalchemy statsmodels sympy tabulate
tensorstore tiktoken timm tokenizers torchaudio torchmetrics torchvision tqdm transformers treescope
trl typer urllib3 uv wandb wrapt xarray xgboost
"""


def _read() -> dict[str, frozenset[str]]:
    known = {name: frozenset({name.replace("-", "_")}) for name in _REGULAR.split()}
    for line in _IRREGULAR.strip().splitlines():
        name, _, modules = line.partition(":")
        known[name] = frozenset(modules.split())
    return known


MODULES: Mapping[str, frozenset[str]] = _read()
"""First names of modules, by the package that has them."""

_CUDA = "nvidia-"
"""What NVIDIA's packages of CUDA libraries are called; they have the module `nvidia`."""


def modules_of(package: str) -> frozenset[str] | None:
    """Return the first names of a well-known package's modules; None of any other.

    Args:
        package: The package's name, in lower case with dashes.
    """
    if package.startswith(_CUDA):
        return frozenset({"nvidia"})
    return MODULES.get(package)


def packages_with(module: str) -> tuple[str, ...]:
    """Return the well-known packages that have a module, the usual one first.

    Args:
        module: The module's first name.
    """
    having = [package for package, modules in MODULES.items() if module in modules]
    usual = module.lower().replace("_", "-")
    return tuple(sorted(having, key=lambda name: (name != usual, _USUAL.get(module) != name, name)))


_USUAL = {
    "cupy": "cupy-cuda12x",
    "cv2": "opencv-python-headless",
    "faiss": "faiss-cpu",
    "orbax": "orbax-checkpoint",
    "PIL": "pillow",
    "tensorflow": "tensorflow",
    "tensorboard": "tensorboard",
}
"""The package to name where several have a module."""
