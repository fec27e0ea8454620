defmodule Image.ZeroShot.Serving.Model do
  @moduledoc false

  # A CLIP model on libtorch, as a serving runs it.

  @behaviour Image.ZeroShot.Serving.Runner

  alias Image.ZeroShot.{Error, Hub}
  alias Image.ZeroShot.Hub.Repo
  alias Image.ZeroShot.Native.{Loader, Torch}

  # Pictures for each thread on a CPU, and in all. Measured with ViT-B/32, see bench/README.md:
  # larger batches are not faster, only later.
  @max_batch_thread 16
  @max_batch 256

  @doc """
  What makes a model another one. How it is fetched, and how it is served, does not.
  """
  @impl true
  def key(opts),
    do: {Repo.source(opts), opts.device, opts.precision, opts.cache_dir, opts.torchscript}

  @doc """
  Loads the model. One of the Hub is downloaded unless it is in the cache.
  """
  @impl true
  def open(opts) do
    with :ok <- Loader.torch(),
         {:ok, directory} <- Hub.directory(opts),
         {:ok, ref} <- directory |> Torch.model_load(settings(opts)) |> Error.from_native(),
         {:ok, info} <- ref |> Torch.model_info() |> Error.from_native(),
         do: {:ok, ref, Map.merge(info, more(info, opts, directory))}
  end

  @impl true
  def encode(ref, tag, pixels, prompts) do
    with {:ok, :queued} <- ref |> Torch.encode(tag, pixels, prompts) |> Error.from_native(),
         do: :ok
  end

  @impl true
  def parts(ref, tag, pixels, prompts) do
    with {:ok, :queued} <- ref |> Torch.parts(tag, pixels, prompts) |> Error.from_native(),
         do: :ok
  end

  @impl true
  def close(ref) do
    {:ok, :unloaded} = Torch.model_unload(ref)
    :ok
  end

  @doc """
  The devices that libtorch can use here, as the `:device` option takes them.
  """
  @spec devices() :: {:ok, [:cpu | :mps | {:cuda, non_neg_integer()}]} | {:error, Error.t()}
  def devices do
    with :ok <- Loader.torch(),
         {:ok, names} <- Error.from_native(Torch.devices()),
         do: {:ok, Enum.map(names, &device/1)}
  end

  defp device("cuda:" <> index), do: {:cuda, String.to_integer(index)}
  defp device("cpu"), do: :cpu
  defp device("mps"), do: :mps

  defp settings(opts) do
    opts
    |> Map.take([:cache_dir, :torchscript, :concurrency])
    |> Map.merge(%{
      device: device_name(opts.device),
      precision: Atom.to_string(opts.precision),
      threads: threads(opts)
    })
  end

  # The schedulers are as many as the cores that the system, or its container, lets this VM use.
  defp threads(%{threads: nil, concurrency: concurrency}),
    do: max(div(System.schedulers_online(), concurrency), 1)

  defp threads(%{threads: threads}), do: threads

  defp more(info, opts, directory) do
    %{
      name: opts |> Repo.source() |> Repo.name(),
      directory: directory,
      revision: opts.revision,
      requested_device: device_name(opts.device),
      max_batch: opts.max_batch || max_batch(info)
    }
  end

  defp max_batch(%{device: "cpu", threads: threads}),
    do: min(@max_batch_thread * threads, @max_batch)

  defp max_batch(_gpu), do: @max_batch

  defp device_name({:cuda, index}), do: "cuda:#{index}"
  defp device_name(device), do: Atom.to_string(device)
end
