defmodule Image.ZeroShot do
  @moduledoc """
  Zero-shot image classification: says which of your labels fits a picture best, with CLIP on libtorch.

      iex> photo = File.read!("priv/samples/dog.jpg")
      iex> [best | _] = Image.ZeroShot.classify(photo, ["cat", "dog", "pizza"], repo: :embedded)
      iex> best.label
      "dog"
      iex> Image.ZeroShot.label(photo, ["cat", "dog", "pizza"], repo: :embedded)
      "dog"
      iex> Image.ZeroShot.similarity(photo, photo, repo: :embedded) > 0.999
      true
      iex> {:error, error} = Image.ZeroShot.try_label("no picture", ["cat", "dog"], repo: :embedded)
      iex> error.reason
      :invalid_image

  `classify/3`, `label/3`, `explain/3`, `similarity/3`, `suggest/2`, `classifier/2`, `embed/2` and
  `embed_text/2` return the result, and raise an `Image.ZeroShot.Error` when a picture, a label
  or a model is at fault. With `try_` in front, the same verb returns `{:ok, result}` or
  `{:error, error}` instead. These return the same without `try_`: `info/1` and `devices/0`, the functions
  of `Image.ZeroShot.Hub`, `Image.ZeroShot.Classifier.calibrate/3`, both `from_binary/2`, and those of
  `Image.ZeroShot.Index` that search or load. `load/1` and the functions that put, delete or save return `:ok` or
  `{:error, error}`. `classify_many/3` and `embed_many/2` have an `{:ok, result}` or `{:error, error}` for each
  picture. A mistake in the program, such as an unknown option, raises an `ArgumentError` everywhere.

  ## Where things are

  | you want to | see |
  | --- | --- |
  | score labels for a picture | `classify/3`, `label/3` |
  | see which part of a picture speaks for a label | `explain/3` |
  | have labels suggested | `suggest/2` |
  | compare two pictures | `similarity/3` |
  | classify many pictures | `classify_many/3`, `mix zero_shot.classify` |
  | compile, store or send labels | `classifier/2`, `Image.ZeroShot.Classifier` |
  | teach labels by pictures, have scores that mean something | `classifier/2`, `Image.ZeroShot.Classifier.calibrate/3` |
  | compute a vector once, and keep it | `embed/2`, `embed_text/2`, `embed_many/2`, `Image.ZeroShot.Embedding` |
  | find pictures by words or by a picture, find duplicates | `Image.ZeroShot.Index`, `mix zero_shot.search` |
  | have a model loaded at boot, share it in a cluster | `Image.ZeroShot.Serving` |
  | fetch a model by name | `Image.ZeroShot.Hub`, `mix image_vision.download_models` |
  | load, unload or inspect a model | `load/1`, `unload/1`, `info/1`, `devices/0` |
  | know which pictures are read, and how | `Image.ZeroShot.Source` |
  | handle errors | `Image.ZeroShot.Error` |
  | measure, watch a serving | `Image.ZeroShot.Telemetry`, `Image.ZeroShot.LiveDashboard` |
  | test an application without a model | `Image.ZeroShot.Test` |

  ## Pictures

  A picture is one of these: the bytes of an image file, `{:path, path}`,
  `{:rgb, binary, height, width}`, a `Vix.Vips.Image`, an `Nx.Tensor` of height x width x
  channels, or any struct that implements `Image.ZeroShot.Source`. The protocol's documentation
  says more about each. Every function that takes a picture, except
  `explain/3`, also takes an `Image.ZeroShot.Embedding`, and then does not run the image tower.

  A picture is turned upright by its EXIF orientation and converted to RGB. It is resized and cropped as
  the model was trained. Of an animation the first frame counts.

  ## Options

  A wrong option is a mistake in the program and raises an `ArgumentError`. Every option can be given
  for the whole application; a misspelt name there is logged as a warning when the application starts.
  Each call reads the configuration, and an option in the call wins:

      config :image_zero_shot, repo: "openai/clip-vit-large-patch14", device: :cuda

  ### The model

  #{Image.ZeroShot.Call.OptionTable.docs(:repo)}
  #{Image.ZeroShot.Call.OptionTable.docs(:model)}
  #{Image.ZeroShot.Call.OptionTable.docs(:target)}
  #{Image.ZeroShot.Call.OptionTable.docs(:call)}
  * #{Image.ZeroShot.Call.OptionTable.mention(:hub)} - how a model is fetched by its name; see `Image.ZeroShot.Hub`
  * #{Image.ZeroShot.Call.OptionTable.mention(:serving)} - how a model is served; see `Image.ZeroShot.Serving`.
    Calls do not take them; `load/1` and the configuration do

  > #### TorchScript runs code {: .warning}
  >
  > Encoders given as `:torchscript` are programs with the rights of the VM. Name only files that you
  > would run.

  ### The labels

  #{Image.ZeroShot.Call.OptionTable.docs(:labels)}

  ### The picture

  #{Image.ZeroShot.Call.OptionTable.docs(:picture)}

  ### Scoring

  #{Image.ZeroShot.Call.OptionTable.docs(:scores)}
  #{Image.ZeroShot.Call.OptionTable.docs(:results)}

  With `z = logit_scale * cosine` for a label, and `z_b` for each embedding of `:other`:

  | choice | score of a label | score of `:other` |
  | --- | --- | --- |
  | `scores: :softmax` | `exp(z) / (sum of exp(z) of all labels + sum of exp(z_b))` | its part of the same sum |
  | `multi_label: true` | `exp(z) / (exp(z) + sum of exp(z_b))` | none |
  | `multi_label: true` of SigLIP, without `:other` | `1 / (1 + exp(-z - logit_bias))` | |
  | `scores: :sigmoid`, only of SigLIP | `1 / (1 + exp(-z - logit_bias))` | the highest of its prompts |
  | `scores: :logits` | `z` | `log(sum of exp(z_b))` |
  | `scores: :cosine` | the cosine of the embeddings of label and picture | the highest of its prompts |

  SigLIP learned whether a caption belongs to a picture, each caption by itself. So each label has a
  probability of its own, with `scores: :sigmoid` or `multi_label: true`. **Low values are normal, also for
  the right label**: compare labels and pictures, and choose `:min_score` on pictures of your own. CLIP has
  no such probability, and `scores: :sigmoid` is an error. With `multi_label: true` and without `:other`,
  the prompt "a photo" is then the background of each label. Give `:other`: the background decides what a
  score means.

  > #### Scores are not probabilities {: .warning}
  >
  > None of them is calibrated: a score of 0.9 does not mean that nine of ten such answers are right.
  > Choose `:min_score` on pictures of your own. The guide "Labels and prompts" shows what each choice
  > does.

  The last digits of a score can differ between two equal calls. Pictures and prompts of several
  calls share a batch, and the size of the batch decides which matrix kernels run and in which order
  they add. Compare scores with a tolerance: 1.0e-4 is enough for `:softmax` and `:cosine`.

  ### Limits

  No picture and no list of labels can take more than its share.

  #{Image.ZeroShot.Call.OptionTable.docs(:picture_limits)}
  #{Image.ZeroShot.Call.OptionTable.docs(:label_limits)}

  ## Labels

  Labels are a list of strings, and `:template` makes a prompt of each. To give labels prompts of their
  own, put `{label, prompts}` into the list, or pass a map of `label => prompts`. Such a label can be any
  term, for instance an id, and comes back unchanged. Its prompts are embedded without the template, and
  averaged. A classifier from `classifier/2` can take the place of labels.

      Image.ZeroShot.label(photo, %{17 => ["a photo of a dog", "a puppy"], 18 => "a photo of a cat"})

  Labels keep their order, a map has the order of `Map.to_list/1`, and a label given twice is
  returned twice. An empty string is a label as well. A prompt longer than the model reads (77 tokens for CLIP, 64 for most of
  SigLIP) is cut, and a warning is logged once.
  """

  alias Image.ZeroShot.{Classifier, Embedding, Error, Source, Telemetry}
  alias Image.ZeroShot.Call.{Explain, Options, Pipeline, Suggest}
  alias Image.ZeroShot.Serving.{Client, Model}

  @typedoc "What can be classified; see `Image.ZeroShot.Source`."
  @type picture :: Source.t() | Embedding.t()

  @typedoc "Labels with templates or with prompts of their own, or a classifier."
  @type labels ::
          [String.t() | {term(), prompt() | [prompt(), ...]}, ...]
          | %{required(term()) => prompt() | [prompt(), ...]}
          | Classifier.t()

  @typedoc "A sentence, or for `classifier/2` also a picture that shows the label."
  @type prompt :: String.t() | {:picture, picture()}

  @typedoc "A label with its score: with the default `:scores` its share of the whole."
  @type result :: %{label: term(), score: float()}

  @typedoc """
  A label with its score, and where in the picture that comes from.

    * `:label`, `:score` - as in `t:result/0`
    * `:cosine` - the cosine of the embeddings of picture and label, which the score is made of
    * `:map` - what each patch of the picture adds to the cosine: a list of rows from the top, each a list of
      32-bit floats from the left. `Nx.tensor(map)` makes a tensor of rows x columns. 7 x 7 for ViT-B/32, 14 x 14
      for ViT-B/16, 16 x 16 for ViT-L/14
    * `:rest` - what no patch adds. All of `:map` and `:rest` sum to `:cosine`
    * `:explained` - the sum of `:map` divided by `:cosine`, such as 0.62. It can be below 0 or above 1, where patches
      and rest have opposite signs; `nil` if the cosine is 0
    * `:contrast` - `:map` less the mean of the maps of all other labels. `:other`, or the background of
      `multi_label: true`, is one of them: the prompt with the highest cosine. The same as `:map` if there is
      nothing else
    * `:box` - where the map lies in the picture: `{left, top, width, height}` as floats, in pixels of the upright
      original. What lies outside was cropped away
    * `:size` - `{width, height}` of the upright original in pixels
    * `:png` - with `format: :png`: a PNG file of the picture with the contrast laid over it, orange for and blue
      against the label, with a legend. Its longer side is 448 to 1024 pixels. All results of a call have
      the same scale
    * `:ansi` - with `format: :ansi`: the same without the legend, as text for a terminal, at most 38 columns wide, in
      24-bit colours where `COLORTERM` names them and in xterm's 256 elsewhere
  """
  @type explanation :: %{
          required(:label) => term(),
          required(:score) => float(),
          required(:cosine) => float(),
          required(:map) => [[float()]],
          required(:rest) => float(),
          required(:explained) => float() | nil,
          required(:contrast) => [[float()]],
          required(:box) => {float(), float(), float(), float()},
          required(:size) => {pos_integer(), pos_integer()},
          optional(:png) => binary(),
          optional(:ansi) => String.t()
        }

  @typedoc """
  Facts about a loaded model and its serving.

    * `:name` - the model's name on the Hub, or that of its directory
    * `:directory` - where its files are
    * `:revision` - the branch, tag or commit that was asked for, or `nil`
    * `:commit` - what tells the model from others of the same name, as embeddings, classifiers and indexes have
      it: the commit on the Hub, or elsewhere a checksum of the weights such as `"local-9f3c01aa"`
    * `:device` - where the encoders are, such as `"cpu"` or `"cuda:0"`
    * `:requested_device` - what was asked for, such as `"auto"`
    * `:device_note` - why `:auto` did not take a better device, or `nil`
    * `:precision` - what the encoders multiply in: `"f32"`, `"bf16"`, `"f16"` or `"int8"`, or `nil` for
      encoders given as `:torchscript`
    * `:memory` - what the weights take on the device, in bytes; a table of token embeddings stays on disk
    * `:dim` - the length of an embedding
    * `:image_size` - the side of the square that the image tower sees, in pixels
    * `:patch_size` - the side of one of its patches, in pixels of that square
    * `:context_length` - the most tokens that the text tower reads
    * `:family` - what the model is: `"clip"`, `"siglip"` or `"metaclip_2"`
    * `:logit_scale` - the factor between cosine and softmax
    * `:logit_bias` - what SigLIP adds before its sigmoid, or `nil`
    * `:format` - how the weights are written: `"safetensors"`, `"pytorch"` or `"torchscript"`
    * `:weights` - the file that the weights were read from, the index of several, or the directory
      given as `:torchscript`
    * `:tokenizer` - the files that the tokenizer was made of
    * `:encoders` - where the exported encoders are kept, or `nil` if they could not be written
    * `:encoders_note` - why they could not, or `nil`
    * `:state` - `:ready`. A serving with a name that loads its model again can also be `:loading` or
      `:failed`; all facts above are then those of the last load
    * `:last_error` - the `Image.ZeroShot.Error` of the last load, or `nil` if that succeeded
    * `:retry_in` - the milliseconds until the model is loaded again, or `nil`
    * `:node` - where the serving is
    * `:concurrency`, `:threads`, `:max_batch` - how it runs, see `Image.ZeroShot.Serving`
    * `:queue` - how many callers are `:admitted`, of at most `:max`; how many of their requests are
      `:waiting`; how many batches are `:running`; how many requests were `:dropped` because their
      caller was gone
    * `:decoding` - the threads of that node that decode and resize pictures, shared by its servings:
      * `:threads` - the most threads there can be
      * `:busy` - how many pictures are being worked on
      * `:waiting` - how many pictures wait
      * `:oldest_ms` - the milliseconds since the oldest of all these was handed in
      * `:wait_ms` - how long the next caller's picture would wait
      * `:each_ms` - how long a picture has taken lately
      * `:memory` - the bytes that decoding has reserved
    * `:text_cache` - the embeddings of prompts that are kept:
      * `:size` - how many there are
      * `:max` - the most there can be
      * `:hits` - how many prompts of calls were found there, since loading
      * `:misses` - how many were not, since loading
    * `:batches` - since loading:
      * `:count` - how many batches ran
      * `:pictures` - how many pictures were in them
      * `:prompts` - how many prompts were in them
      * `:largest` - the most pictures of one batch
      * `:failed` - how many batches failed

  More may come with later versions.
  """
  @type info :: %{required(atom()) => term()}

  @doc """
  Scores each label for a picture, and returns all of them, best first.

  Unless `:scores` or `:multi_label` say otherwise, the scores are positive and sum to 1.0: they say
  how the labels compare with one another, not how sure the model is that any of them is right.
  Labels of equal score stay in the order given, and a label given twice is returned twice.

  Raises an `Image.ZeroShot.Error` where `try_classify/3` returns one.

  ## Options

  See the [options](#module-options) of this module.

  ## Examples

      iex> results =
      ...>   Image.ZeroShot.classify(
      ...>     {:path, "priv/samples/pizza.webp"},
      ...>     ["umbrella", "pizza", "rocket"],
      ...>     repo: :embedded
      ...>   )
      iex> hd(results).label
      "pizza"
      iex> results |> Enum.map(& &1.score) |> Enum.sum() |> Float.round(5)
      1.0

  """
  @spec classify(picture(), labels(), keyword()) :: [result()]
  def classify(picture, labels, opts \\ []), do: bang!(try_classify(picture, labels, opts))

  @doc """
  Same as `classify/3`, but returns `{:ok, results}` or `{:error, error}` instead of raising.

  ## Examples

      iex> {:error, error} = Image.ZeroShot.try_classify({:path, "no.jpg"}, ["cat"], repo: :embedded)
      iex> Exception.message(error)
      ~s("no.jpg": no such file)

  """
  @spec try_classify(picture(), labels(), keyword()) ::
          {:ok, [result()]} | {:error, Error.t()}
  def try_classify(picture, labels, opts \\ []) do
    opts = options(labels, opts)
    call(:classify, opts, fn -> Pipeline.rank(picture, labels, opts) end)
  end

  @doc """
  Returns the label that fits a picture best.

  Of labels with the same score, the first one given wins. If `:other` is best, the result is its label,
  which is `nil` for a list of prompts. If no label reaches `:min_score`, the result is `nil`. Raises an
  `Image.ZeroShot.Error` where `try_label/3` returns one.

  ## Options

  See the [options](#module-options) of this module.

  ## Examples

      iex> Image.ZeroShot.label({:path, "priv/samples/cat.png"}, ["dog", "cat"], repo: :embedded)
      "cat"

  """
  @spec label(picture(), labels(), keyword()) :: term()
  def label(picture, labels, opts \\ []), do: bang!(try_label(picture, labels, opts))

  @doc """
  Same as `label/3`, but returns `{:ok, label}` or `{:error, error}` instead of raising.

  ## Examples

      iex> Image.ZeroShot.try_label({:path, "priv/samples/cat.png"}, [], repo: :embedded)
      {:error,
       %Image.ZeroShot.Error{
         reason: :invalid_label,
         message: "expected at least one label, got: []"
       }}

  """
  @spec try_label(picture(), labels(), keyword()) :: {:ok, term()} | {:error, Error.t()}
  def try_label(picture, labels, opts \\ []) do
    opts = %{options(labels, opts) | top_k: 1}

    case call(:label, opts, fn -> Pipeline.rank(picture, labels, opts) end) do
      {:ok, [%{label: label}]} -> {:ok, label}
      {:ok, []} -> {:ok, nil}
      {:error, error} -> {:error, error}
    end
  end

  @doc """
  Explains the scores of labels: which part of the picture speaks for each of them.

  Scores the labels as `classify/3` does, and returns an `t:explanation/0` for each, best first. Its
  `:map` says what each patch of the picture adds to the cosine of picture and label, and its `:rest` what
  no patch adds. Together they are the cosine. Most of a map is the same for all labels, so look at the
  `:contrast`: the map less the mean of the other labels' maps. Give the labels that you want to tell apart,
  or `:other`.

  It takes about a fifth longer than `classify/3`, and no memory of its own. Explanations of several callers
  run one after the other, not in a batch.

  The guide "Explain" shows what maps look like, and what they do not say.

  Raises an `Image.ZeroShot.Error` where `try_explain/3` returns one.

  ## Options

  The [options](#module-options) of this module, as for `classify/3`, and

  #{Image.ZeroShot.Call.OptionTable.docs(:explain)}

  ## Errors

  Those of `classify/3`, and the reason `:unsupported_model` for SigLIP models and for encoders given as
  `:torchscript`: their embeddings are not a sum of what patches add. An embedding instead of the picture
  raises an `ArgumentError`.

  ## Examples

      iex> [best | _] = Image.ZeroShot.explain({:path, "priv/samples/dog.jpg"}, ["cat", "dog"], repo: :embedded)
      iex> {best.label, length(best.map), length(hd(best.map)), best.size}
      {"dog", 4, 4, {256, 256}}
      iex> patches = best.map |> List.flatten() |> Enum.sum()
      iex> abs(best.rest + patches - best.cosine) < 1.0e-5
      true

  """
  @spec explain(picture(), labels(), keyword()) :: [explanation()]
  def explain(picture, labels, opts \\ []), do: bang!(try_explain(picture, labels, opts))

  @doc """
  Same as `explain/3`, but returns `{:ok, explanations}` or `{:error, error}` instead of raising.

  ## Examples

      iex> {:error, error} = Image.ZeroShot.try_explain("no picture", ["cat", "dog"], repo: :embedded)
      iex> error.reason
      :invalid_image

  """
  @spec try_explain(picture(), labels(), keyword()) ::
          {:ok, [explanation()]} | {:error, Error.t()}
  def try_explain(picture, labels, opts \\ []) do
    {own, opts} = Options.explain!(opts)
    opts = options(labels, opts)
    call(:explain, opts, fn -> Explain.run(picture, labels, opts, own) end)
  end

  @doc """
  Classifies any number of pictures against the same labels, as a lazy stream in their order.

  Each element of the stream is `{picture, {:ok, results}}` or `{picture, {:error, error}}`, with the
  picture that you gave. A picture that fails never stops the others, whether its file is damaged or
  missing, or your `Image.ZeroShot.Source` crashes.

  Nothing happens before the stream is consumed. Then the labels are compiled once, and pictures are
  read, decoded and resized on all cores while the model works on those before them, in full
  batches. At most `:window` pictures are in flight, so memory stays bounded for any number of
  pictures. Prefer paths to bytes. Halting the stream early cancels the work in flight.

  Wrong labels, or a model that cannot be loaded, raise an `Image.ZeroShot.Error` when the stream is
  first consumed, because they fail for all pictures. A wrong option raises an `ArgumentError` at once.

  ## Options

  The [options](#module-options) of this module, with another default for `:timeout`, and:

  #{Image.ZeroShot.Call.OptionTable.docs(:stream)}
  * `:timeout` - the time for each picture, including the wait for those before it. While other callers
    fill the serving, a picture waits for a place within this time and is not refused. A `:timeout` in the
    configuration does not apply. Defaults to `:infinity`

  If users of a web application should not wait behind such a job, give it a serving of its own or a
  small `:window`.

  Stored embeddings are relabelled at the speed of a matrix product: those that follow one another are
  compared in groups of up to 512. Give a classifier and `top_k: 1`, since a list of all labels for each
  picture takes longer than its scores.

  ## Examples

      iex> ["dog.jpg", "no-such.jpg", "cat.png"]
      ...> |> Enum.map(&{:path, Path.join("priv/samples", &1)})
      ...> |> Image.ZeroShot.classify_many(["cat", "dog"], repo: :embedded, top_k: 1)
      ...> |> Enum.map(fn
      ...>   {_picture, {:ok, [%{label: label}]}} -> label
      ...>   {_picture, {:error, error}} -> error.reason
      ...> end)
      ["dog", :not_found, "cat"]

  """
  @spec classify_many(Enumerable.t(), labels(), keyword()) :: Enumerable.t()
  def classify_many(pictures, labels, opts \\ []) do
    {own, opts} = Options.stream!(opts)
    Pipeline.rank_many(pictures, labels, options(labels, opts), own)
  end

  @doc """
  Returns how alike two pictures are to the model, as the cosine of their embeddings.

  The result lies between -1.0 and 1.0, and is higher for pictures of similar things. Both pictures go
  through the model in one batch, without any text. Where "alike" begins depends on the model, so
  compare results with each other. Raises an `Image.ZeroShot.Error` where `try_similarity/3` returns one.

  Either can be an embedding, also one of a text. Texts have far lower cosines: with OpenAI's
  models two pictures have 0.5 to 0.9, a picture and a text 0.15 to 0.35. See
  [Two thresholds](`m:Image.ZeroShot.Embedding#module-two-thresholds`).

  ## Options

  The [options](#module-options) of this module, without those about labels:
  #{Image.ZeroShot.Call.OptionTable.mention(:labels)}, #{Image.ZeroShot.Call.OptionTable.mention(:label_limits)},
  #{Image.ZeroShot.Call.OptionTable.mention(:scores)},
  #{Image.ZeroShot.Call.OptionTable.mention(:results)}.

  ## Examples

      iex> dog = {:path, "priv/samples/dog.jpg"}
      iex> cat = {:path, "priv/samples/cat.png"}
      iex> Image.ZeroShot.similarity(dog, dog, repo: :embedded) >
      ...>   Image.ZeroShot.similarity(dog, cat, repo: :embedded)
      true

  """
  @spec similarity(picture(), picture(), keyword()) :: float()
  def similarity(picture, other, opts \\ []), do: bang!(try_similarity(picture, other, opts))

  @doc """
  Same as `similarity/3`, but returns `{:ok, cosine}` or `{:error, error}` instead of raising.

  ## Examples

      iex> dog = {:path, "priv/samples/dog.jpg"}
      iex> {:error, error} = Image.ZeroShot.try_similarity(dog, {:path, "no.jpg"}, repo: :embedded)
      iex> Exception.message(error)
      ~s(second picture: "no.jpg": no such file)

  """
  @spec try_similarity(picture(), picture(), keyword()) :: {:ok, float()} | {:error, Error.t()}
  def try_similarity(picture, other, opts \\ []) do
    opts = Options.embed!(opts)
    call(:similarity, opts, fn -> Pipeline.cosine(picture, other, opts) end)
  end

  @doc """
  Suggests labels for a picture where you have none, best first.

  Scores all labels of a vocabulary as `classify/3` does, and returns the best ten. Labels that mean the same
  to the model (prompts with a cosine of at least 0.95, such as "sofa" and "couch") or differ only by a plural
  "s", a hyphen or a space are one result: the best of them, with the sum of their scores.

  A score is a share of the whole vocabulary, so it is low where many labels fit a little. It
  does not say whether any label fits well. Use suggestions to choose labels of your own, and
  classify with those.

  The prompts of the vocabulary go through the model once. They are then kept with the exported
  encoders, in `:cache_dir`, and loaded from there by the next VM. A vocabulary given as a list
  is only kept in memory. Until the prompts are kept, one caller embeds them and the others wait for it:
  call `suggest/2` once at boot. `:timeout` is the time for the picture, and for each 512 prompts that are not
  kept yet; it includes the wait for another caller.

  For a folder, embed the pictures in full batches and suggest for each embedding, or use
  `mix zero_shot.classify FOLDER --suggest`:

      paths
      |> Enum.map(&{:path, &1})
      |> Image.ZeroShot.embed_many()
      |> Enum.map(fn
        {picture, {:ok, embedding}} -> {picture, Image.ZeroShot.try_suggest(embedding)}
        {picture, {:error, error}} -> {picture, {:error, error}}
      end)

  ## Options

  The [options](#module-options) of this module about the model, the picture, `:template` and the limits
  of labels, `:min_score`, and `:top_k`, which is 10 here even if the configuration has another; and

  #{Image.ZeroShot.Call.OptionTable.docs(:suggest)}

  The nouns are from WordNet 3.0, with additions; `priv/vocabulary/LICENSE.md` has their licence.

  ## Examples

      iex> dog = {:path, "priv/samples/dog.jpg"}
      iex> [first, _] = Image.ZeroShot.suggest(dog, vocabulary: ["guitar", "dog", "pizza"], top_k: 2, repo: :embedded)
      iex> first.label
      "dog"

  """
  @spec suggest(picture(), keyword()) :: [result()]
  def suggest(picture, opts \\ []), do: bang!(try_suggest(picture, opts))

  @doc """
  Same as `suggest/2`, but returns `{:ok, results}` or `{:error, error}` instead of raising.

  ## Examples

      iex> {:error, error} = Image.ZeroShot.try_suggest("no picture", vocabulary: ["dog"], repo: :embedded)
      iex> error.reason
      :invalid_image

  """
  @spec try_suggest(picture(), keyword()) :: {:ok, [result()]} | {:error, Error.t()}
  def try_suggest(picture, opts \\ []) do
    opts = Options.suggest!(opts)
    call(:suggest, opts, fn -> Suggest.run(picture, opts) end)
  end

  @doc """
  Embeds a picture, or each of a list of pictures in one batch.

  The result is an `Image.ZeroShot.Embedding`, or a list of them in the order given: a unit vector of 32-bit
  floats (512 for ViT-B/32) with its model. Keep it, and give it to any function of this module except
  `explain/3` instead of the picture. An embedding is returned unchanged.

  A list takes at most 512 pictures, whose files are all in memory, and fails as a whole with the index of
  the picture at fault. For more, or where some may fail, use `embed_many/2`. Raises an
  `Image.ZeroShot.Error` where `try_embed/2` returns one.

  ## Options

  Those of `similarity/3`.

  ## Examples

      iex> dog = Image.ZeroShot.embed({:path, "priv/samples/dog.jpg"}, repo: :embedded)
      iex> {dog.kind, Image.ZeroShot.Embedding.dim(dog)}
      {:picture, 128}
      iex> Image.ZeroShot.label(dog, ["cat", "dog"], repo: :embedded)
      "dog"

  """
  @spec embed(picture(), keyword()) :: Embedding.t()
  @spec embed([picture()], keyword()) :: [Embedding.t()]
  def embed(picture, opts \\ []), do: bang!(try_embed(picture, opts))

  @doc """
  Same as `embed/2`, but returns `{:ok, result}` or `{:error, error}` instead of raising.

  ## Examples

      iex> pictures = [{:path, "priv/samples/dog.jpg"}, {:path, "no.jpg"}]
      iex> {:error, error} = Image.ZeroShot.try_embed(pictures, repo: :embedded)
      iex> Exception.message(error)
      ~s(picture at index 1: "no.jpg": no such file)

  """
  @spec try_embed(picture() | [picture()], keyword()) ::
          {:ok, Embedding.t() | [Embedding.t()]} | {:error, Error.t()}
  def try_embed(picture, opts \\ []) do
    opts = Options.embed!(opts)
    call(:embed, opts, fn -> Pipeline.embed(picture, opts) end)
  end

  @doc """
  Embeds a text, or each of a list of texts.

  The result is an `Image.ZeroShot.Embedding` of the kind `:text`, or a list of them in the order given, with
  as many dimensions as those of pictures. The text is embedded without a template: `:template` has no default
  here, not even from the configuration. Several templates make one vector of a text, their mean. Raises an
  `Image.ZeroShot.Error` where `try_embed_text/2` returns one, with the reason `:invalid_label` for a text that
  is not a string of valid UTF-8, or is too long.

  ## Options

  The [options](#module-options) of this module about the model and the labels.

  ## Examples

      iex> dog = Image.ZeroShot.embed_text("a photo of a dog", repo: :embedded)
      iex> pictures = [{:path, "priv/samples/cat.png"}, {:path, "priv/samples/dog.jpg"}]
      iex> Enum.max_by(pictures, &Image.ZeroShot.similarity(&1, dog, repo: :embedded))
      {:path, "priv/samples/dog.jpg"}

  """
  @spec embed_text(String.t(), keyword()) :: Embedding.t()
  @spec embed_text([String.t()], keyword()) :: [Embedding.t()]
  def embed_text(text, opts \\ []), do: bang!(try_embed_text(text, opts))

  @doc """
  Same as `embed_text/2`, but returns `{:ok, result}` or `{:error, error}` instead of raising.

  ## Examples

      iex> {:error, error} = Image.ZeroShot.try_embed_text(["a dog", <<255>>], repo: :embedded)
      iex> Exception.message(error)
      "text at index 1 is not valid UTF-8: <<255>>"

  """
  @spec try_embed_text(String.t() | [String.t()], keyword()) ::
          {:ok, Embedding.t() | [Embedding.t()]} | {:error, Error.t()}
  def try_embed_text(text, opts \\ []) do
    opts = Options.embed_text!(opts)
    call(:embed_text, opts, fn -> Pipeline.embed_text(text, opts) end)
  end

  @doc """
  Embeds any number of pictures, as a lazy stream in their order.

  Each element is `{picture, {:ok, embedding}}` or `{picture, {:error, error}}`. All else is as with
  `classify_many/3`: full batches, at most `:window` pictures in flight, failures in their place.

  ## Options

  Those of `similarity/3`, and of streams as `classify_many/3` has them: `:window`, `:progress`, `:timeout`.

  ## Examples

      iex> ["dog.jpg", "no-such.jpg"]
      ...> |> Enum.map(&{:path, Path.join("priv/samples", &1)})
      ...> |> Image.ZeroShot.embed_many(repo: :embedded)
      ...> |> Enum.map(fn
      ...>   {_picture, {:ok, embedding}} -> embedding.kind
      ...>   {_picture, {:error, error}} -> error.reason
      ...> end)
      [:picture, :not_found]

  """
  @spec embed_many(Enumerable.t(), keyword()) :: Enumerable.t()
  def embed_many(pictures, opts \\ []) do
    {own, opts} = Options.embed_many!(opts)
    Pipeline.embed_many(pictures, opts, own)
  end

  @doc """
  Compiles labels for a model. Calls take the classifier instead of labels, as often as you like.

  All prompts are embedded now; `classify/3` and `label/3` then compute only the picture. Compile a
  classifier when you have thousands of labels, or want to store it or send it to another node. A few
  labels that you use again are fast without one: a serving caches the embeddings of prompts.

  A label can have pictures beside its prompts, as `{:picture, picture}`, or instead of them (few-shot):

      Image.ZeroShot.classifier(%{
        "scratched" => [{:picture, {:path, "1.jpg"}}, {:picture, {:path, "2.jpg"}}, "a scratched screen"],
        "whole" => [{:picture, {:path, "3.jpg"}}, "an undamaged screen"]
      })

  The mean of its prompts and the mean of its pictures become one vector. Give pictures to all labels or
  to none: a picture is nearer to other pictures than words are, so a label without them hardly ever wins,
  and a warning is logged. For the same reason `:other` with prompts never wins; let
  `Image.ZeroShot.Classifier.calibrate/3` find the threshold.

  Options given here, such as the model, hold for calls with the classifier unless the call gives
  others. Raises an `Image.ZeroShot.Error` where `try_classifier/2` returns one.

  ## Options

  The [options](#module-options) of this module, and those of pictures for the pictures of labels.
  `:timeout` is the time for each 512 prompts, and for each batch of pictures. Only the files of one batch
  are in memory.

  #{Image.ZeroShot.Call.OptionTable.docs(:examples)}

  ## Examples

      iex> classifier = Image.ZeroShot.classifier(["cat", "dog"], template: nil, repo: :embedded)
      iex> Image.ZeroShot.label({:path, "priv/samples/cat.png"}, classifier)
      "cat"

  """
  @spec classifier(labels(), keyword()) :: Classifier.t()
  def classifier(labels, opts \\ []), do: bang!(try_classifier(labels, opts))

  @doc """
  Same as `classifier/2`, but returns `{:ok, classifier}` or `{:error, error}` instead of raising.

  ## Examples

      iex> {:error, error} = Image.ZeroShot.try_classifier(["cat", <<255>>], repo: :embedded)
      iex> Exception.message(error)
      "label at index 1 is not valid UTF-8: <<255>>"

  """
  @spec try_classifier(labels(), keyword()) :: {:ok, Classifier.t()} | {:error, Error.t()}
  def try_classifier(labels, opts \\ []) do
    all = Options.classifier!(opts)
    call(:classifier, all, fn -> Pipeline.compile(labels, all, opts) end)
  end

  @doc """
  Loads a model unless it is loaded, so that the first call does not wait for it.

  If many processes ask for the same model at once, it is downloaded and loaded once, with the `:token`
  and `:offline` of the first, and all of them get it. If that fails, it fails for all of them, and the
  next call tries again. The model stays until `unload/1` or until the application `:image_zero_shot`
  stops, even if the process that asked for it ends.

  ## Options

    * the [options](#module-options) of this module that say which model, and where
    * #{Image.ZeroShot.Call.OptionTable.mention(:serving)} - how it is served, see
      `Image.ZeroShot.Serving`. The first call for the model decides
    * `:serving` - the name of a serving to wait for

  ## Examples

      iex> Image.ZeroShot.load(repo: :embedded)
      :ok

      iex> {:error, error} = Image.ZeroShot.load(repo: {:local, "no/such/directory"})
      iex> error.reason
      :not_found

  """
  @spec load(keyword()) :: :ok | {:error, Error.t()}
  def load(opts \\ []) do
    with {:ok, _info} <- opts |> Options.load!() |> Client.load(), do: :ok
  end

  @doc """
  Unloads the model that the options name, and returns when its memory is free.

  Pass the options that it was loaded with. Calls in flight fail with the reason `:model_unloaded`; the
  next call loads the model again. Unloading a model that is not loaded does nothing. To stop a serving
  with a name, stop it in the supervisor that started it.
  """
  @spec unload(keyword()) :: :ok
  def unload(opts \\ []), do: opts |> Options.unload!() |> Client.unload()

  @doc """
  Returns facts about a loaded model and its serving: a health check that computes nothing.

  Takes the options that the model was loaded with, or `serving: name`.

  ## Examples

      iex> :ok = Image.ZeroShot.load(repo: :embedded)
      iex> {:ok, info} = Image.ZeroShot.info(repo: :embedded)
      iex> {info.name, info.dim, info.image_size, info.queue.max}
      {"emoji-clip", 128, 64, 512}

  """
  @spec info(keyword()) :: {:ok, info()} | {:error, Error.t()}
  def info(opts \\ []) do
    with {:ok, info} <- opts |> Options.model!() |> Client.info(),
         do: {:ok, Map.delete(info, :preprocessing)}
  end

  @doc """
  Lists the devices that libtorch can use here, as the `:device` option takes them.

  ## Examples

      iex> {:ok, devices} = Image.ZeroShot.devices()
      iex> :cpu in devices
      true

  """
  @spec devices() :: {:ok, [:cpu | :mps | {:cuda, non_neg_integer()}]} | {:error, Error.t()}
  def devices, do: Model.devices()

  defp options(%Classifier{} = classifier, opts) do
    case Classifier.check!(classifier) do
      %{calibration: nil, template: template} ->
        %{Options.classified!(opts, classifier.opts) | template: template}

      _calibrated ->
        Options.calibrated!(opts, classifier.opts)
    end
  end

  defp options(_labels, opts), do: Options.classify!(opts)

  # A whole call, as applications see it in their telemetry.
  defp call(function, %{serving: serving} = opts, run) do
    repo = if serving, do: nil, else: opts.repo

    Telemetry.span(:call, %{function: function, repo: repo, serving: serving}, fn ->
      with {:error, error} <- run.() do
        Telemetry.emit(:error, %{count: 1}, %{reason: error.reason, serving: serving})
        {:error, error}
      end
    end)
  end

  defp bang!({:ok, result}), do: result
  defp bang!({:error, error}), do: raise(error)
end
