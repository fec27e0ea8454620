defmodule Image.ZeroShot.Model do
  @moduledoc """
  A CLIP model that is loaded: its two encoders and all it takes to use them.

  `Image.ZeroShot` loads the model a call needs by itself, once, and keeps it. This module is for
  loading it beforehand, for looking at it, and for getting its memory back.

      {:ok, model} = Image.ZeroShot.Model.load(repo: :embedded)
      Image.ZeroShot.Model.info(model).device
      Image.ZeroShot.Model.unload(model)

  A model is kept by a process of this library, never by the process that asked for it first, until
  it is unloaded or the application `:image_zero_shot` stops.
  """

  @behaviour Image.ZeroShot.ModelServer

  alias Image.ZeroShot.{Error, ModelServer, Native, Options, Repo}

  @enforce_keys [:ref, :key, :info]
  defstruct [:ref, :key, :info]

  @typedoc "A loaded model. All fields are private; see `info/1`."
  @type t :: %__MODULE__{ref: reference(), key: term(), info: map()}

  @typedoc """
  Facts about a model.

    * `:name` - the model's name on the Hub, or that of its directory
    * `:directory` - where its files are
    * `:revision` - the branch, tag or commit that was asked for, or `nil`
    * `:commit` - the commit of the files, or `nil` where they are not from the Hub
    * `:device` - where the encoders are, such as `"cpu"` or `"cuda:0"`
    * `:requested_device` - what was asked for, such as `"auto"`
    * `:device_note` - why `:auto` did not take a better device, or `nil`
    * `:dim` - the length of an embedding
    * `:image_size` - the side of the square that the image encoder sees, in pixels
    * `:context_length` - the most tokens that the text encoder reads
    * `:logit_scale` - the factor between cosine and softmax
    * `:precision` - the type the encoders compute in, such as `"f32"`
    * `:format` - how the weights are written: `"safetensors"`, `"pytorch"` or `"torchscript"`
    * `:weights` - the file that the weights were read from, the index of several, or the directory
      given as `:torchscript`
    * `:tokenizer` - the files that the tokenizer was made of
    * `:encoders` - where the exported encoders are kept, or `nil` if they could not be written
    * `:encoders_note` - why they could not, or `nil`

  More may come with later versions.
  """
  @type info :: %{
          required(:name) => String.t(),
          required(:directory) => Path.t(),
          required(:revision) => String.t() | nil,
          required(:commit) => String.t() | nil,
          required(:device) => String.t(),
          required(:requested_device) => String.t(),
          required(:device_note) => String.t() | nil,
          required(:dim) => pos_integer(),
          required(:image_size) => pos_integer(),
          required(:context_length) => pos_integer(),
          required(:logit_scale) => float(),
          required(:precision) => String.t(),
          required(:format) => String.t(),
          required(:weights) => String.t(),
          required(:tokenizer) => [String.t()],
          required(:encoders) => String.t() | nil,
          required(:encoders_note) => String.t() | nil,
          optional(atom()) => term()
        }

  @doc """
  Loads a model, or finds it loaded. One of the Hub is downloaded unless it is in the cache.

  However many processes ask for the same model at the same moment, it is downloaded and loaded
  once, with the `:token` and `:offline` of the first, and all get it. A load that fails fails for
  all of them; the next call tries again.

  ## Options

    * `:repo`, `:revision`, `:token`, `:offline`, `:hub_cache`, `:hub_endpoint`, `:device`,
      `:cache_dir`, `:torchscript` - see `Image.ZeroShot`

  ## Examples

      iex> {:ok, model} = Image.ZeroShot.Model.load(repo: :embedded, device: :cpu)
      iex> model
      #Image.ZeroShot.Model<"emoji-clip", 128 dims, cpu>

      iex> {:error, error} = Image.ZeroShot.Model.load(repo: {:local, "no/such/directory"})
      iex> error.reason
      :not_found

  """
  @spec load(keyword()) :: {:ok, t()} | {:error, Error.t()}
  def load(opts \\ []), do: opts |> Options.model!() |> fetch()

  @doc """
  Tells what is known about a loaded model.

  ## Examples

      iex> {:ok, model} = Image.ZeroShot.Model.load(repo: :embedded, device: :cpu)
      iex> info = Image.ZeroShot.Model.info(model)
      iex> {info.name, info.dim, info.image_size, info.device}
      {"emoji-clip", 128, 64, "cpu"}

  """
  @spec info(t()) :: info()
  def info(%__MODULE__{info: info}), do: Map.delete(info, :preprocessing)

  @doc """
  Unloads a model, given as it was loaded or by the options it was loaded with.

  Returns when the memory is given back. Calls that use the model at that moment fail with the
  reason `:model_unloaded`; the next call loads it anew. A model that is not loaded is fine too.
  """
  @spec unload(t() | keyword()) :: :ok
  def unload(model_or_opts)

  def unload(%__MODULE__{ref: ref, key: key}) do
    # A model loaded since then under the same key is another one.
    case ModelServer.loaded(key) do
      {:ok, %__MODULE__{ref: ^ref}} -> ModelServer.stop(key)
      _ -> :ok
    end
  end

  def unload(opts) do
    opts |> Options.model!() |> key() |> ModelServer.stop()
  end

  @doc """
  Lists the devices that libtorch can use here, as the `:device` option takes them.

  ## Examples

      iex> :cpu in Image.ZeroShot.Model.devices()
      true

  """
  @spec devices() :: [:cpu | :mps | {:cuda, non_neg_integer()}]
  def devices do
    with {:error, error} <- Native.Loader.torch(), do: raise(error)
    {:ok, names} = Error.from_native(Native.Torch.devices())
    Enum.map(names, &device/1)
  end

  defp device("cuda:" <> index), do: {:cuda, String.to_integer(index)}
  defp device("cpu"), do: :cpu
  defp device("mps"), do: :mps

  @doc false
  @spec fetch(Options.t()) :: {:ok, t()} | {:error, Error.t()}
  def fetch(opts), do: opts |> key() |> ModelServer.fetch(__MODULE__, opts)

  # The two calls that compute. All who want an embedding come through here.

  @doc false
  @spec encode_images(t(), [binary()]) :: {:ok, binary()} | {:error, Error.t()}
  def encode_images(%__MODULE__{ref: ref}, pixels),
    do: ref |> Native.Torch.encode_images(pixels) |> Error.from_native()

  @doc false
  @spec encode_texts(t(), [String.t()]) ::
          {:ok, {binary(), truncated :: [non_neg_integer()]}} | {:error, Error.t()}
  def encode_texts(%__MODULE__{ref: ref}, prompts),
    do: ref |> Native.Torch.encode_texts(prompts) |> Error.from_native()

  defp key(opts), do: {Repo.source(opts), opts.device, opts.cache_dir, opts.torchscript}

  @doc false
  @impl ModelServer
  def open({source, _device, _cache_dir, _torchscript} = key, opts) do
    settings =
      Map.take(%{opts | device: device_name(opts.device)}, [:device, :cache_dir, :torchscript])

    with {:ok, directory} <- Repo.directory(opts),
         :ok <- Native.Loader.torch(),
         {:ok, ref} <- directory |> Native.Torch.model_load(settings) |> Error.from_native(),
         {:ok, info} <- ref |> Native.Torch.model_info() |> Error.from_native() do
      more = %{
        name: Repo.name(source),
        directory: directory,
        revision: opts.revision,
        requested_device: settings.device
      }

      {:ok, %__MODULE__{ref: ref, key: key, info: Map.merge(info, more)}}
    end
  end

  @doc false
  @impl ModelServer
  def close(%__MODULE__{ref: ref}), do: Native.Torch.model_unload(ref)

  defp device_name({:cuda, index}), do: "cuda:#{index}"
  defp device_name(device), do: Atom.to_string(device)

  defimpl Inspect do
    def inspect(%{info: info}, _opts) do
      "#Image.ZeroShot.Model<#{Kernel.inspect(info.name)}, #{info.dim} dims, #{info.device}>"
    end
  end
end
