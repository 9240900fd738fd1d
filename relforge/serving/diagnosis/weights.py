"""Causes that lie in the weights, in how they are described, and in what is asked of them."""

from __future__ import annotations

from relforge.serving.diagnosis.model import KnownCause, patterns

_FILES = r"(?:config\.json|table\.json|\btokenizer|\.safetensors\b|\.bin\b)"

CAUSES: tuple[KnownCause, ...] = (
    KnownCause(
        id="unknown-option",
        explanation="the server does not know an option it was started with",
        remedy="correct serve.args (or serve.command) to what this version of the server takes",
        field="serve.args",
        seen=("tests/e2e/test_real_causes.py::test_an_option_that_the_server_does_not_know",),
        patterns=patterns(
            r"error: unrecognized arguments?: (?P<option>--?[\w.-]{1,80})",
            r"error: unrecognized arguments?:",
        ),
    ),
    KnownCause(
        id="invalid-option-value",
        explanation="the server does not take the value of an option it was started with",
        remedy="correct it in serve.args (or serve.command)",
        field="serve.args",
        seen=("tests/e2e/test_real_causes.py::test_a_value_that_an_option_does_not_take",),
        patterns=patterns(
            r"error: argument (?P<option>--?[\w.-]{1,80})[^:]{0,80}: (?P<why>.{1,160})",
        ),
    ),
    KnownCause(
        id="head-size",
        explanation="the attention backend of this device does not know the model's head size",
        remedy="serve a model whose head size the device knows, or choose another attention "
        "backend (serve.args)",
        field="model",
        seen=(
            "tests/e2e/test_vllm_patches.py::"
            "test_a_head_size_that_cpu_attention_lacks_is_refused_at_start",
        ),
        patterns=patterns(
            r"Head size (?P<size>\d{1,5}) is not supported by \w{1,40}.{0,40}?"
            r"(Supported head sizes( are)?: (?P<supported>[\d, \[\]]{1,200}))?",
            r"unsupported .{0,60}head_dim=(?P<size>\d{1,5})",
            r"head size.{0,80}(not supported|unsupported|invalid)",
            r"head_size.{0,80}(not supported|unsupported|invalid)",
            r"head_dim.{0,80}(not supported|unsupported|invalid)",
            r"(not support|unsupported|invalid).{0,60}head size\b",
            r"(not support|unsupported|invalid).{0,60}head_size\b",
        ),
    ),
    KnownCause(
        id="heads-not-divisible",
        explanation="the model's attention heads cannot be shared evenly by so many devices",
        remedy="set serve.tensor_parallel to a divisor of the number of heads",
        field="serve.tensor_parallel",
        seen=(
            "tests/e2e/test_real_causes.py::test_heads_that_cannot_be_shared",
            "https://github.com/vllm-project/vllm/issues/2652",
        ),
        patterns=patterns(
            r"attention heads \((?P<heads>\d{1,6})\) must be divisible by tensor parallel size "
            r"\((?P<size>\d{1,6})\)",
        ),
    ),
    KnownCause(
        id="context-too-long",
        explanation="a longer context is asked for than the model was made for",
        remedy="lower serve.args.max-model-len to what the model's config.json says",
        field="serve.args.max-model-len",
        seen=(
            "tests/e2e/test_real_causes.py::test_a_context_longer_than_the_models",
            "https://github.com/vllm-project/vllm/issues/3676",
        ),
        patterns=patterns(
            r"max_model_len \((?P<length>\d{1,12})\) is greater than the derived max_model_len "
            r"\([^=)]{0,80}=(?P<fits>\d{1,12})",
            r"max_model_len \((?P<length>\d{1,12})\) is greater than the derived max_model_len",
        ),
    ),
    KnownCause(
        id="remote-code-needed",
        explanation="the weights bring Python code of their own, and the server was not allowed to "
        "run it",
        remedy="read that code; if it is to be trusted, set serve.args.trust-remote-code to true",
        field="serve.args.trust-remote-code",
        seen=(
            "tests/e2e/test_real_causes.py::test_weights_with_code_of_their_own",
            "https://github.com/InternLM/lagent/issues/49",
            "https://github.com/OpenGVLab/InternVL/issues/1244",
        ),
        patterns=patterns(
            r"contains custom code which must be executed to correctly ?load the model",
            r"pass the argument `?trust_remote_code=True`?",
            r"set the option `?trust_remote_code=True`?",
        ),
    ),
    KnownCause(
        id="unknown-architecture",
        explanation="this version of the server does not know the model's architecture",
        remedy="build from a tree that has it (sources: a newer version, or patches), or correct "
        "architectures in the weights' config.json",
        field="sources",
        seen=(
            "tests/e2e/test_real_causes.py::test_an_architecture_that_nobody_knows",
            "https://github.com/vllm-project/vllm/issues/32338",
        ),
        patterns=patterns(
            r"Model architectures (?P<name>\[[^\]]{1,120}\]) (are not supported|failed to be)",
            r"(?P<name>\w{3,80}) has no vLLM implementation",
        ),
    ),
    KnownCause(
        id="unknown-model-type",
        explanation="the image's transformers does not know the model's type",
        remedy="pin a newer transformers (build.python.requirements)",
        field="build.python.requirements",
        seen=(
            "tests/e2e/test_real_causes.py::test_a_model_type_that_nobody_knows",
            "https://github.com/vllm-project/vllm/issues/19793",
        ),
        patterns=patterns(
            r"model type `?(?P<name>[\w.-]{1,60})`? but Transformers does not recognize this",
        ),
    ),
    KnownCause(
        id="unknown-quantization",
        explanation="the server does not know the weights' quantization",
        remedy="correct or remove serve.args.quantization (the weights' config.json tells the "
        "method), or build from a tree that knows it (sources)",
        field="serve.args.quantization",
        seen=(
            "tests/e2e/test_real_causes.py::test_a_quantization_that_nobody_knows",
            "https://github.com/vllm-project/vllm/issues/1919",
            "https://github.com/vllm-project/vllm/issues/19050",
        ),
        patterns=patterns(
            r"Unknown quantization method: (?P<name>[\w-]{1,40})",
            r"Quantization method specified in the model config \((?P<name>[\w.-]{1,40})\) does "
            r"not match the quantization method specified in the `quantization` argument",
        ),
    ),
    KnownCause(
        id="weights-damaged",
        explanation="a file of the weights is cut short or damaged",
        remedy="fetch it again, and compare it with its pinned hash: relforge weights",
        field="model.weights",
        seen=(
            "tests/e2e/test_real_causes.py::test_weights_that_are_cut_short",
            "https://github.com/QwenLM/Qwen3-VL/issues/264",
        ),
        patterns=patterns(
            r"Error while deserializing header",
            r"\bSafetensorError\b",
            r"\bMetadataIncompleteBuffer\b",
            r"\bInvalidHeaderDeserialization\b",
            r"PytorchStreamReader failed reading zip archive",
        ),
    ),
    KnownCause(
        id="weights-unreadable",
        explanation="the server's user may not read the mounted weights",
        remedy="make the folder readable for everybody (chmod -R a+rX), on the host that serves; "
        "the server reads it at serve.model_path",
        field="model.weights",
        seen=("tests/engine/test_start_causes.py::test_weights_of_somebody_else",),
        patterns=patterns(
            r"Permission denied: '?(?P<file>/models?/[^'\s)]{0,200})",
            r"Permission denied: '?(?P<file>[^'\s)]{0,200}" + _FILES + ")",
            r"Permission denied \(os error 13\)",
        ),
    ),
    KnownCause(
        id="config-unreadable",
        explanation="the weights' config.json is no valid configuration",
        remedy="fetch it again, and compare it with its pinned hash: relforge weights",
        field="model.weights",
        seen=("tests/e2e/test_real_causes.py::test_a_configuration_that_is_cut_short",),
        patterns=patterns(
            r"config file at '?(?P<file>[^'\s]{1,200})'? is not a valid JSON",
            r"OSError:.{0,200} is not a valid JSON file",
        ),
    ),
    KnownCause(
        id="tokenizer-unloadable",
        explanation="the tokenizer among the weights is missing, damaged, or of a newer format "
        "than the image's libraries know",
        remedy="compare its files with their pinned hashes (relforge weights); else pin a newer "
        "transformers and tokenizers (build.python.requirements)",
        field="model.weights",
        seen=(
            "tests/e2e/test_real_causes.py::test_a_tokenizer_that_is_cut_short",
            "https://github.com/dleemiller/WordLlama/issues/16",
            "https://github.com/qwopqwop200/GPTQ-for-LLaMa/issues/140",
        ),
        patterns=patterns(
            r"did not match any variant of untagged enum \w{0,30}(Wrapper)?",
            r"Couldn'?t instantiate the backend tokenizer",
            r"Can'?t load (the )?tokenizer for",
            r"json\.load\(tokenizer_file_handle\)",  # the frame: json says not of which file
            r"Tokenizer class \w{1,60} does not exist or is not currently imported",
        ),
    ),
    KnownCause(
        id="weights-do-not-fit",
        explanation="the tensors in the weights have other shapes or names than config.json says",
        remedy="take config.json and weights from one revision (model.weights); for quantized "
        "weights see that serve.args.quantization says how",
        field="model.weights",
        seen=(
            "tests/e2e/test_real_causes.py::test_weights_of_another_shape",
            "https://github.com/verl-project/verl/issues/834",
            "https://github.com/meta-llama/llama/issues/427",
        ),
        patterns=patterns(
            r"Attempted to load weight \(.{1,60}\) into parameter \(",
            r"size mismatch for [\w.]{1,120}: copying a param with shape",
            r"Following weights were not initialized from checkpoint",
            r"no module or parameter named '[^']{1,120}'",
            r"\.data\.copy_\(loaded_weight\)",  # vLLM's loaders, in the trace of a failed copy
        ),
    ),
    KnownCause(
        id="weights-missing",
        explanation="the weights are missing from the mounted folder, or may not be read there "
        "(safetensors calls both missing)",
        remedy="compare the model manifest's weights (path, files, hashes) with the folder, and "
        "let everybody read it (chmod -R a+rX); the server reads them at serve.model_path",
        field="model.weights",
        seen=(
            "tests/e2e/test_real_causes.py::test_weights_that_are_missing",
            "tests/e2e/test_real_causes.py::test_weights_that_cannot_be_read",
            "tests/e2e/test_real_causes.py::test_a_folder_that_is_empty",
        ),
        patterns=patterns(
            r"Cannot find any model weights with `?(?P<file>[^`\s]{1,200})",
            r"does not appear to have a file named (?P<file>[\w./-]{1,120}?)\.?(\s|$)",
            r"Invalid repository ID or local directory specified: ?'?(?P<file>[^'\s]{0,200})",
            r"Repo id must (be in the form|use alphanumeric)",
            r"Can'?t load (the )?(configuration|feature extractor|image processor)",
            r"OSError:.{0,200}is not a local folder",
            r"No such file or directory: '?\"?(?P<file>/models?/[^'\"\s]{0,200})",
            r"No such file or directory.{0,160}" + _FILES,
        ),
    ),
    KnownCause(
        id="no-chat-template",
        explanation="the tokenizer has no chat template, so chat requests are refused",
        remedy="give one (serve.args.chat-template, a path in the container), or use weights that "
        "bring it (model.weights: tokenizer_config.json, chat_template.jinja)",
        field="serve.args.chat-template",
        seen=(
            "tests/e2e/test_real_causes.py::test_a_tokenizer_without_a_chat_template",
            "https://github.com/vllm-project/vllm/issues/29849",
        ),
        patterns=patterns(
            r"default chat template is no longer allowed",
            r"chat_template is not set",
            r"does not define a chat template",
        ),
        kind="request",
    ),
    KnownCause(
        id="wrong-served-name",
        explanation="the server serves the model under another name than the release declares",
        remedy="make serve.served_name and the name the server is given the same",
        field="serve.served_name",
        seen=("tests/e2e/test_real_causes.py::test_another_name_than_the_servers",),
        patterns=patterns(
            r"\bmodel [`'\"](?P<asked>.{1,120}?)[`'\"] does not exist",
            r"serves (?P<served>'.{1,120}) but not the declared name '(?P<asked>[^']{1,120})'",
            r"serves .{1,200} but not the declared name",
        ),
        kind="request",
    ),
)
