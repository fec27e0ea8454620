defmodule Image.ZeroShot do
  @moduledoc """
  Says which of your labels fits a picture best, with CLIP on libtorch, for labels of any kind.

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

  Three verbs, each in two forms. `classify/3`, `label/3` and `similarity/3` return the result and
  raise an `Image.ZeroShot.Error` when a picture, a label or a model is at fault. With `try_` in
  front, the same verb returns `{:ok, result}` or `{:error, error}` instead. Options that are wrong
  are mistakes in the program: both forms raise an `ArgumentError` for them.

  `classify_many/3` does it for any number of pictures, as a stream, and `classifier/2` compiles
  labels that are used often.

  ## Pictures

  The bytes of an image file, `{:path, path}`, `{:rgb, binary, height, width}`, a `Vix.Vips.Image`,
  an `Nx.Tensor` of height x width x channels, or any struct that implements `Image.ZeroShot.Source`,
  which says more about each.

  A picture is turned upright by its EXIF orientation, converted to RGB, resized and cropped as the
  model was trained; of an animation the first frame counts.

  ## Options

    * `:repo` - the model: a name on the Hugging Face Hub such as `"org/name"`, `{:hf, name}` or
      `{:hf, name, revision: revision}`; `{:local, directory}` for one in Hugging Face layout; or
      `:embedded` for the small one that comes with the library (it knows emoji and is no model for
      photographs). Defaults to `"openai/clip-vit-base-patch32"`, which is downloaded once (605 MB)
    * `:revision`, `:token`, `:offline`, `:hub_cache`, `:hub_endpoint` - how a model is fetched by
      its name; see `Image.ZeroShot.Hub`
    * `:device` - where to compute: `:auto`, `:cpu`, `:cuda`, `{:cuda, index}` or `:mps`. A device
      that is named and not there is an error; `:auto` takes the best there is, and
      `info/1` tells which. Defaults to `:auto`
    * `:background` - the colour behind transparent pixels: `:white`, `:black` or
      `{red, green, blue}`, each from 0 to 255. `:drop` drops the transparency and shows whatever
      colour is stored under it, as OpenAI's own code does; image_vision lays pictures over black.
      Defaults to `:white`, as in Hugging Face transformers 5
    * `:color_profile` - `:srgb` converts the colours of a picture to sRGB by the ICC profile that its
      file embeds, as libvips and browsers do. `:ignore` takes the numbers as they are, as
      `convert("RGB")` of Pillow, transformers and image_vision do. Photos of phones are often in
      Display P3, whose numbers taken for sRGB are duller colours. See "Colour profiles" in
      `Image.ZeroShot.Source`. Defaults to `:ignore`
    * `:decode` - `:exact` decodes every pixel. `:fast` decodes a large JPEG to a half, a quarter or
      an eighth of its width and height, as long as both stay four times the size that the model
      resizes to. Smaller pictures and other formats come out as with `:exact`. A photo of 12
      megapixels takes half the time. Of the photos measured, resized pixels differed by 0.04 to
      0.27 of 255 levels in the mean; noise and checks can differ by more. Defaults to `:exact`
    * `:cache_dir` - where exported encoders are kept, not the models they come from. Defaults to
      `image_zero_shot` in the user's cache directory. Where a service has none, they are made at
      every load
    * `:torchscript` - a directory with `image.pt` and `text.pt`, encoders of this model that you
      exported yourself, to use instead of ours. TorchScript is a program and runs with the rights
      of the VM: name nothing that you would not run. Defaults to `nil`
    * `:timeout` - the time that a call may take once the model is loaded, in milliseconds or
      `:infinity`. Defaults to `15_000`
    * `:serving` - the name of an `Image.ZeroShot.Serving` to use, on this node or on another, in
      place of all of these that say which model. Defaults to `nil`, which starts a serving for the
      model when it is first needed

  What is made of the labels:

    * `:template` - the prompt made of each label: a string with `{label}` in it, or `nil` for the
      label as it is. A list of those makes several prompts a label, whose embeddings are averaged
      (ensembling, as in the CLIP paper); `:openai_imagenet` is the list of 80 that CLIP's authors
      wrote for ImageNet, `:simple_imagenet` the seven that did nearly as well. Defaults to
      `"a photo of {label}"`
    * `:other` - what stands for "none of these": a label, a list of prompts, or
      `{label, prompts}`. It takes part beside the labels and appears in the results, a list of
      prompts with the label `nil`. A label is made one prompt by the template, as any label is;
      the prompts of a list count each for itself. Defaults to `nil`, for none
    * `:scores` - `:softmax`, `:logits` or `:cosine`. Defaults to `:softmax`
    * `:multi_label` - with `true` each label is scored for itself, so that several or none can be
      high. Defaults to `false`
    * `:top_k` - return so many results at most. Defaults to `nil`, for all
    * `:min_score` - leave out results below it. Defaults to `nil`
    * `:logit_scale` - the factor between cosine and softmax, in place of the model's own (100 for
      OpenAI's). A smaller one makes the scores more alike. Defaults to `nil`

  With `z = logit_scale * cosine` for a label, and `z_b` for each embedding of `:other`:

  | choice | score of a label | score of `:other` |
  | --- | --- | --- |
  | `scores: :softmax` | `exp(z) / (sum of exp(z) of all labels + sum of exp(z_b))` | its part of the same sum |
  | `multi_label: true` | `exp(z) / (exp(z) + sum of exp(z_b))`; without `:other` the prompt "a photo" stands behind each label. Give `:other`: what stands there decides what a score means | none |
  | `scores: :logits` | `z` | `log(sum of exp(z_b))` |
  | `scores: :cosine` | the cosine of the embeddings of label and picture | the highest of its prompts |

  None of them is a calibrated probability: a score of 0.9 does not mean that nine of ten such
  answers are right. Choose `:min_score` on pictures of your own. The guide "Labels and prompts"
  shows what each choice does.

  The last digits of a score can differ between two equal calls. Pictures and prompts of several
  calls share a batch, and the size of the batch decides which matrix kernels run and in which order
  they add. Compare scores with a tolerance: 1.0e-4 is enough for `:softmax` and `:cosine`.

  Limits, so that no picture and no list of labels takes more than its share:

    * `:max_bytes` - the size of an image file. Defaults to `25_000_000`
    * `:max_pixels` - width times height. Defaults to `50_000_000`
    * `:max_side` - width and height. Defaults to `16_384`
    * `:max_decode_bytes` - the memory that decoding may take, in bytes. Defaults to 512 MiB. All
      pictures that are decoded at the same time take 1 GiB at most; those beyond wait
    * `:max_decode_ms` - the processor time that decoding may take, in milliseconds. Defaults to
      `10_000`
    * `:max_labels` - the number of labels. Defaults to `10_000`
    * `:max_label_bytes` - the length of a label. Defaults to `4_096`
    * `:max_prompts` - the number of prompts of all labels, each template times each label. Defaults
      to `100_000`

  Every option can be given for the whole application; the configuration is read by each call, and
  an option in the call wins:

      config :image_zero_shot, repo: "openai/clip-vit-large-patch14", device: :cuda

  ## Labels

  A list of strings, each of which `:template` makes a prompt of; or, with prompts of their own,
  `{label, prompts}` in the list or a map of `label => prompts`. Such a label can be any term, an id
  for instance, and comes back as it is; its prompts are embedded as they are, and averaged. Or a
  classifier, which `classifier/2` compiled.

      Image.ZeroShot.label(photo, %{17 => ["a photo of a dog", "a puppy"], 18 => "a photo of a cat"})

  Order is kept, a label given twice is returned twice, and a map has the order of `Map.to_list/1`.
  A prompt longer than the model reads (77 tokens for CLIP) is cut, and a warning logged once.
  """

  alias Image.ZeroShot.{Classifier, Error, Source, Telemetry}
  alias Image.ZeroShot.Call.{Options, PictureStream, Pipeline}
  alias Image.ZeroShot.Serving.Model
  alias Image.ZeroShot.Serving.Client

  @typedoc "What can be classified; see `Image.ZeroShot.Source`."
  @type picture :: Source.t()

  @typedoc "Labels with templates or with prompts of their own, or a classifier."
  @type labels ::
          [String.t() | {term(), String.t() | [String.t(), ...]}, ...]
          | %{required(term()) => String.t() | [String.t(), ...]}
          | Classifier.t()

  @typedoc "A label with its score: with the default `:scores` its share of the whole."
  @type result :: %{label: term(), score: float()}

  @typedoc """
  Facts about a loaded model and its serving.

    * `:name` - the model's name on the Hub, or that of its directory
    * `:directory` - where its files are
    * `:revision` - the branch, tag or commit that was asked for, or `nil`
    * `:commit` - the commit of the files, or `nil` where they are not from the Hub
    * `:device` - where the encoders are, such as `"cpu"` or `"cuda:0"`
    * `:requested_device` - what was asked for, such as `"auto"`
    * `:device_note` - why `:auto` did not take a better device, or `nil`
    * `:precision` - the type the encoders compute in, such as `"f32"`
    * `:memory` - what the weights take on the device, in bytes
    * `:dim` - the length of an embedding
    * `:image_size` - the side of the square that the image tower sees, in pixels
    * `:context_length` - the most tokens that the text tower reads
    * `:logit_scale` - the factor between cosine and softmax
    * `:format` - how the weights are written: `"safetensors"`, `"pytorch"` or `"torchscript"`
    * `:weights` - the file that the weights were read from, the index of several, or the directory
      given as `:torchscript`
    * `:tokenizer` - the files that the tokenizer was made of
    * `:encoders` - where the exported encoders are kept, or `nil` if they could not be written
    * `:encoders_note` - why they could not, or `nil`
    * `:state` - `:ready`; or of a serving with a name whose model was loaded before, `:loading` or
      `:failed`. All facts above are then those of the last load
    * `:last_error` - the `Image.ZeroShot.Error` of the last load, or `nil` if that succeeded
    * `:retry_in` - the milliseconds until the model is loaded again, or `nil`
    * `:node` - where the serving is
    * `:concurrency`, `:threads`, `:max_batch` - how it runs, see `Image.ZeroShot.Serving`
    * `:queue` - callers `:admitted` of at most `:max`, of them requests `:waiting`; batches
      `:running`; requests `:dropped` because nobody waited for them any more
    * `:pixels` - the threads of that node that decode and resize pictures, shared by its servings:
      how many `:threads` there are at most, pictures that they are `:busy` with and that are
      `:waiting`, `:oldest_ms` since the oldest of those was handed in, `:wait_ms` that the next
      caller's picture would wait, `:each_ms` that a picture has taken lately, and the `:memory` that
      they have reserved, in bytes
    * `:text_cache` - how many prompts' embeddings are kept, their `:size` and `:max`, and since it
      was loaded the `:hits` and `:misses` of prompts that were asked for
    * `:batches` - since it was loaded: their `:count`, the `:pictures` and `:prompts` in them, the
      pictures of the `:largest`, and how many `:failed`

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
  Does what `classify/3` does, and returns `{:ok, results}` or `{:error, error}`.

  ## Examples

      iex> {:error, error} = Image.ZeroShot.try_classify({:path, "no.jpg"}, ["cat"], repo: :embedded)
      iex> Exception.message(error)
      ~s("no.jpg": no such file)

  """
  @spec try_classify(picture(), labels(), keyword()) ::
          {:ok, [result()]} | {:error, Error.t()}
  def try_classify(picture, labels, opts \\ []) do
    opts = options(labels, opts)
    picture |> Pipeline.rank(labels, opts) |> told(opts)
  end

  @doc """
  Returns the label that fits a picture best.

  Of labels with the same score it is the first one given. Where `:other` is best it is the label of
  that, `nil` for a list of prompts; and it is `nil` where no label reaches `:min_score`. Raises an
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
  Does what `label/3` does, and returns `{:ok, label}` or `{:error, error}`.

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

    case picture |> Pipeline.rank(labels, opts) |> told(opts) do
      {:ok, [%{label: label}]} -> {:ok, label}
      {:ok, []} -> {:ok, nil}
      {:error, error} -> {:error, error}
    end
  end

  @doc """
  Classifies any number of pictures against the same labels, as a lazy stream in their order.

  Each element of the stream is `{picture, {:ok, results}}` or `{picture, {:error, error}}`, with the
  picture as it was given. A picture that fails never stops the others: a file that is damaged or
  gone, or a `Image.ZeroShot.Source` of yours that crashes.

  Nothing happens before the stream is consumed. Then the labels are compiled, once, and pictures
  are read, decoded and resized on all cores while the model works on those before them, in full
  batches. Never more than `:window` pictures are begun and not yet taken from the stream, however
  many there are: their files and pixels are what is in memory. Paths are better than bytes here. A
  stream that is not consumed to its end stops the work that is on its way.

  The labels, or a model that cannot be loaded, fail for all pictures: such an `Image.ZeroShot.Error`
  is raised when the stream is first consumed. An option that is wrong raises an `ArgumentError` at
  once.

  ## Options

  The [options](#module-options) of this module, of which one has another default, and:

    * `:window` - how many pictures may be on their way at a time, from 1 to 100000. Defaults to
      `nil`: two batches of the model and a picture a core, and at most three quarters of the
      serving's `:max_queue`
    * `:progress` - a function that is called for each picture, before it is taken from the stream
      and in the process that takes it, with `%{done: count, failed: count, total: count}`. `:done`
      includes `:failed`; `:total` is `nil` unless the pictures are a list
    * `:timeout` - for each picture, the wait for those before it included. Defaults to `:infinity`;
      the configuration does not count here. While a serving is full of other callers, the pictures
      wait for a place in it as long, and are not refused

  A web application whose users should not wait behind such a job gives it a serving of its own, or a
  small `:window`.

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
    {own, opts} = PictureStream.split!(opts)
    PictureStream.stream(pictures, labels, options(labels, opts), own)
  end

  @doc """
  Returns how alike two pictures are to the model, as the cosine of their embeddings.

  The result lies between -1.0 and 1.0, higher for pictures of similar things. Both pictures go
  through the model together, and no text does. Where "alike" begins depends on the model:
  compare results with each other. Raises an `Image.ZeroShot.Error` where `try_similarity/3`
  returns one.

  ## Options

  The [options](#module-options) of this module, without those about labels: `:template`,
  `:max_labels`, `:max_label_bytes` and `:max_prompts`.

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
  Does what `similarity/3` does, and returns `{:ok, cosine}` or `{:error, error}`.

  ## Examples

      iex> dog = {:path, "priv/samples/dog.jpg"}
      iex> {:error, error} = Image.ZeroShot.try_similarity(dog, {:path, "no.jpg"}, repo: :embedded)
      iex> Exception.message(error)
      ~s(second picture: "no.jpg": no such file)

  """
  @spec try_similarity(picture(), picture(), keyword()) :: {:ok, float()} | {:error, Error.t()}
  def try_similarity(picture, other, opts \\ []) do
    opts = Options.similarity!(opts)
    picture |> Pipeline.cosine(other, opts) |> told(opts)
  end

  @doc """
  Compiles labels for a model, to be used in place of labels as often as you like.

  All prompts are embedded now; `classify/3` and `label/3` then compute nothing but the picture.
  Labels that are used again and again are fast without it as well, since a serving remembers the
  embeddings of prompts. A classifier is for label sets of thousands, for those that are kept in a
  file, and for those that travel.

  Options that are given here, the model among them, hold for calls with the classifier unless the
  call gives others. Raises an `Image.ZeroShot.Error` where `try_classifier/2` returns one.

  ## Options

  The [options](#module-options) of this module without those about pictures. `:timeout` is the time
  for each 512 prompts.

  ## Examples

      iex> classifier = Image.ZeroShot.classifier(["cat", "dog"], template: nil, repo: :embedded)
      iex> Image.ZeroShot.label({:path, "priv/samples/cat.png"}, classifier)
      "cat"

  """
  @spec classifier(labels(), keyword()) :: Classifier.t()
  def classifier(labels, opts \\ []), do: bang!(try_classifier(labels, opts))

  @doc """
  Does what `classifier/2` does, and returns `{:ok, classifier}` or `{:error, error}`.

  ## Examples

      iex> {:error, error} = Image.ZeroShot.try_classifier(["cat", <<255>>], repo: :embedded)
      iex> Exception.message(error)
      "the label at index 1 is no valid UTF-8: <<255>>"

  """
  @spec try_classifier(labels(), keyword()) :: {:ok, Classifier.t()} | {:error, Error.t()}
  def try_classifier(labels, opts \\ []) do
    all = Options.classifier!(opts)
    labels |> Pipeline.compile(all, opts) |> told(all)
  end

  @doc """
  Loads a model, or finds it loaded, so that the first call does not wait for it.

  However many processes ask for the same model at the same moment, it is downloaded and loaded
  once, with the `:token` and `:offline` of the first, and all get it. A load that fails fails for
  all of them; the next call tries again. The model stays until `unload/1`, or until the
  application `:image_zero_shot` stops; the process that asked for it can end.

  ## Options

    * the [options](#module-options) of this module that say which model, and where
    * `:max_queue`, `:max_batch`, `:concurrency`, `:threads` - how it is served, see
      `Image.ZeroShot.Serving`; of the first who asks for the model
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
  Unloads a model, named by the options it was loaded with, and returns when its memory is free.

  Calls that use the model at that moment fail with the reason `:model_unloaded`; the next call
  loads it anew. A model that is not loaded is fine too. A serving that an application started
  itself is stopped where it was started.
  """
  @spec unload(keyword()) :: :ok
  def unload(opts \\ []), do: opts |> Options.unload!() |> Client.unload()

  @doc """
  Tells about a model that is loaded, and about its serving: a health check that computes nothing.

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

  defp options(%Classifier{opts: compiled, template: template}, opts),
    do: %{Options.classified!(opts, compiled) | template: template}

  defp options(_labels, opts), do: Options.classify!(opts)

  defp told({:error, error}, opts) do
    Telemetry.emit(:error, %{count: 1}, %{reason: error.reason, serving: opts.serving})
    {:error, error}
  end

  defp told(ok, _opts), do: ok

  defp bang!({:ok, result}), do: result
  defp bang!({:error, error}), do: raise(error)
end
