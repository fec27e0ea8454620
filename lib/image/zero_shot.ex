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

  ## Pictures

  The bytes of an image file, `{:path, path}`, a `Vix.Vips.Image`, an `Nx.Tensor` of height x width
  x channels, or any struct that implements `Image.ZeroShot.Source`, which says more about each.

  A picture is turned upright by its EXIF orientation, converted to RGB, resized and cropped as the
  model was trained; of an animation the first frame counts.

  ## Options

    * `:repo` - the model: a name on the Hugging Face Hub such as `"org/name"`, `{:hf, name}` or
      `{:hf, name, revision: revision}`; `{:local, directory}` for one in Hugging Face layout; or
      `:embedded` for the small one that comes with the library (it knows emoji and is no model for
      photographs). Defaults to `"openai/clip-vit-base-patch32"`, which is downloaded once (605 MB)
    * `:revision`, `:token`, `:offline`, `:hub_cache`, `:hub_endpoint` - how a model is fetched by
      its name; see `Image.ZeroShot.Hub`
    * `:template` - the prompt made of each label, a string with `{label}` in it, or `nil` for the
      label as it is. Defaults to `"a photo of {label}"`
    * `:device` - where to compute: `:auto`, `:cpu`, `:cuda`, `{:cuda, index}` or `:mps`. A device
      that is named and not there is an error; `:auto` takes the best there is, and
      `Image.ZeroShot.Model.info/1` tells which. Defaults to `:auto`
    * `:background` - the colour behind transparent pixels: `:white`, `:black` or
      `{red, green, blue}`, each from 0 to 255. Defaults to `nil`, which drops the transparency and
      shows whatever colour lies underneath, as CLIP's own preprocessing does
    * `:cache_dir` - where exported encoders are kept, not the models they come from. Defaults to
      `image_zero_shot` in the user's cache directory
    * `:torchscript` - a directory with `image.pt` and `text.pt`, encoders of this model that you
      exported yourself, to use instead of ours. TorchScript is a program and runs with the rights
      of the VM: name nothing that you would not run. Defaults to `nil`

  Limits, so that no picture and no list of labels takes more than its share:

    * `:max_bytes` - the size of an image file. Defaults to `25_000_000`
    * `:max_pixels` - width times height. Defaults to `50_000_000`
    * `:max_side` - width and height. Defaults to `16_384`
    * `:max_decode_bytes` - the memory that decoding may take, in bytes. Defaults to 512 MiB
    * `:max_labels` - the number of labels. Defaults to `10_000`
    * `:max_label_bytes` - the length of a label. Defaults to `4_096`

  Every option can be given for the whole application; the configuration is read by each call, and
  an option in the call wins:

      config :image_zero_shot, repo: "openai/clip-vit-large-patch14", device: :cuda

  A prompt longer than the model reads (77 tokens for CLIP) is cut, and a warning logged.
  """

  alias Image.ZeroShot.{Classifier, Error, Model, Native, Options, Picture, Source}

  @typedoc "What can be classified; see `Image.ZeroShot.Source`."
  @type picture :: Source.t()

  @typedoc "A label with its share of the whole, between 0.0 and 1.0."
  @type result :: %{label: String.t(), score: float()}

  @doc """
  Scores each label for a picture, and returns all of them, best first.

  The scores are positive and sum to 1.0: they say how the labels compare with one another, not how
  sure the model is that any of them is right. Labels of equal score stay in the order given, and
  a label given twice is returned twice.

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
  @spec classify(picture(), [String.t(), ...], keyword()) :: [result(), ...]
  def classify(picture, labels, opts \\ []), do: bang!(try_classify(picture, labels, opts))

  @doc """
  Does what `classify/3` does, and returns `{:ok, results}` or `{:error, error}`.

  ## Examples

      iex> {:error, error} = Image.ZeroShot.try_classify({:path, "no.jpg"}, ["cat"], repo: :embedded)
      iex> Exception.message(error)
      ~s("no.jpg": no such file)

  """
  @spec try_classify(picture(), [String.t(), ...], keyword()) ::
          {:ok, [result(), ...]} | {:error, Error.t()}
  def try_classify(picture, labels, opts \\ []) do
    with {:ok, scores} <- scores(picture, labels, Options.classify!(opts)) do
      results = Enum.map(scores, fn {label, score} -> %{label: label, score: score} end)
      {:ok, Enum.sort_by(results, & &1.score, :desc)}
    end
  end

  @doc """
  Returns the label that fits a picture best.

  Of labels with the same score it is the first one given. Raises an `Image.ZeroShot.Error` where
  `try_label/3` returns one.

  ## Options

  See the [options](#module-options) of this module.

  ## Examples

      iex> Image.ZeroShot.label({:path, "priv/samples/cat.png"}, ["dog", "cat"], repo: :embedded)
      "cat"

  """
  @spec label(picture(), [String.t(), ...], keyword()) :: String.t()
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
  @spec try_label(picture(), [String.t(), ...], keyword()) ::
          {:ok, String.t()} | {:error, Error.t()}
  def try_label(picture, labels, opts \\ []) do
    with {:ok, scores} <- scores(picture, labels, Options.classify!(opts)) do
      {label, _score} = Enum.max_by(scores, fn {_label, score} -> score end)
      {:ok, label}
    end
  end

  @doc """
  Returns how alike two pictures are to the model, as the cosine of their embeddings.

  The result lies between -1.0 and 1.0, higher for pictures of similar things. Both pictures go
  through the model together, and no text does. Where "alike" begins depends on the model:
  compare results with each other. Raises an `Image.ZeroShot.Error` where `try_similarity/3`
  returns one.

  ## Options

  The [options](#module-options) of this module, without those about labels: `:template`,
  `:max_labels` and `:max_label_bytes`.

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

    with {:ok, first} <- picture |> Picture.open(opts) |> named("first picture"),
         {:ok, second} <- other |> Picture.open(opts) |> named("second picture"),
         {:ok, model} <- Model.fetch(opts),
         {:ok, pixels1} <- first |> Picture.pixels(model, opts) |> named("first picture"),
         {:ok, pixels2} <- second |> Picture.pixels(model, opts) |> named("second picture"),
         {:ok, embeddings} <- Model.encode_images(model, [pixels1, pixels2]) do
      half = div(byte_size(embeddings), 2)
      <<embedding1::binary-size(half), embedding2::binary>> = embeddings
      Error.from_native(Native.cosine(embedding1, embedding2))
    end
  end

  # What needs no model comes first: nobody waits for a model to learn of a misspelt file name.
  defp scores(picture, labels, opts) do
    with {:ok, labels} <- Classifier.check(labels, opts),
         {:ok, picture} <- Picture.open(picture, opts),
         {:ok, model} <- Model.fetch(opts),
         {:ok, pixels} <- Picture.pixels(picture, model, opts),
         {:ok, classifier} <- Classifier.build(labels, model, opts),
         {:ok, embedding} <- Model.encode_images(model, [pixels]),
         do: Classifier.score(classifier, embedding)
  end

  defp named({:error, error}, name), do: {:error, Error.prefix(error, name)}
  defp named(ok, _name), do: ok

  defp bang!({:ok, result}), do: result
  defp bang!({:error, error}), do: raise(error)
end
