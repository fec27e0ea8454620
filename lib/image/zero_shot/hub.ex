defmodule Image.ZeroShot.Hub do
  @moduledoc """
  Models by name: from the Hugging Face Hub, or from its cache on this machine.

  `Image.ZeroShot` fetches the model a call needs by itself. This module is for fetching it
  beforehand and for asking whether it is there; `mix image_vision.download_models --zero-shot` does
  the same from a command line.

      {:ok, snapshot} = Image.ZeroShot.Hub.fetch("openai/clip-vit-base-patch32")
      snapshot.directory

  The cache is the one of Hugging Face's own tools, in their layout: what Python's `huggingface_hub`
  has downloaded is used without a request, and it finds what is downloaded here. A file is in the
  cache whole and with the content its hash says, or not at all, and any number of processes can
  fetch the same model at once.

  A file system without symbolic links, or `HF_HUB_DISABLE_SYMLINKS`, is no obstacle: the files lie in
  the model's directory themselves then, as Hugging Face's tools leave them. A model of
  sentence-transformers (`0_CLIPModel`) is found too. A model may have 16 GiB.

  A model in the cache is used as it is, without asking whether its branch has moved since. A commit
  as `:revision` names one version for ever; `:refresh` asks.

  ## Options

  #{Image.ZeroShot.Call.OptionTable.docs(:hub)}

  Each can be given as `config :image_zero_shot` too. A `:revision` there belongs to the `:repo`
  there, and is not used for any other.

  ## Environment

  The variables of Hugging Face's tools apply, as they are at the moment of the call,
  `System.put_env/2` included: `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_TOKEN_PATH`,
  `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HUB_DISABLE_SYMLINKS` and `HF_HUB_DISABLE_IMPLICIT_TOKEN`;
  so do `XDG_CACHE_HOME` and `SSL_CERT_FILE`. `HTTPS_PROXY` and `NO_PROXY` apply as they were when the VM started.

  ## The token

  It goes to the endpoint and to no other host, and is in no message, log or inspected term of this
  library. It is better kept in `HF_TOKEN` than in the application's configuration, which anybody
  can print.
  """

  alias Image.ZeroShot.{Error, Native}
  alias Image.ZeroShot.Call.{Options, Secret}
  alias Image.ZeroShot.Hub.Repo
  alias Image.ZeroShot.Hub.Announcer
  alias Image.ZeroShot.Serving.Directory

  @typedoc "The name of a model on the Hub, with a revision or without."
  @type name :: String.t() | {:hf, String.t()} | {:hf, String.t(), revision: String.t()}

  @typedoc """
  A model on this machine.

    * `:directory` - where its files are
    * `:commit` - which version of the model it is
    * `:files` - the files that are used, each with its size in bytes and whether it was in the
      cache before the call
    * `:bytes` - their size together
  """
  @type snapshot :: %{
          directory: Path.t(),
          commit: String.t(),
          files: [%{name: String.t(), size: non_neg_integer(), cached: boolean()}],
          bytes: non_neg_integer()
        }

  @doc """
  Fetches a model, or finds it in the cache.

  Only the files that a CLIP model is loaded from are downloaded: its configuration, its tokenizer
  and one form of its weights, `model.safetensors` where there is one.

  ## Options

  The [options](#module-options) of this module, and:

  #{Image.ZeroShot.Call.OptionTable.docs(:fetch)}

  ## Examples

      iex> {:error, error} = Image.ZeroShot.Hub.fetch("../../etc/passwd")
      iex> error.reason
      :invalid_name

  """
  @spec fetch(name(), keyword()) :: {:ok, snapshot()} | {:error, Error.t()}
  def fetch(name, opts \\ []) do
    opts = Options.hub!(name, opts)
    request(opts, opts.progress)
  end

  @doc """
  Finds a model in the cache, and sends no request: `{:ok, nil}` if it is not there as a whole.

  ## Options

  The [options](#module-options) of this module.

  ## Examples

      iex> Image.ZeroShot.Hub.cached("org/no-such-model", hub_cache: "no/such/directory")
      {:ok, nil}

  """
  @spec cached(name(), keyword()) :: {:ok, snapshot() | nil} | {:error, Error.t()}
  def cached(name, opts \\ []) do
    opts = Options.hub!(name, opts)
    name = Repo.hub_name(opts.repo)
    native(name, fn -> Native.hub_cached(name, opts.revision, settings(opts)) end)
  end

  # For a model that is about to be loaded. Nobody watches, so what happens is logged.
  @doc false
  @spec obtain(Options.t()) :: {:ok, snapshot()} | {:error, Error.t()}
  def obtain(opts) do
    announcer = Announcer.start(Repo.hub_name(opts.repo))

    try do
      request(opts, announcer)
    after
      Announcer.stop(announcer)
    end
  end

  defp request(opts, progress) do
    name = Repo.hub_name(opts.repo)
    native(name, fn -> Native.hub_fetch(name, opts.revision, settings(opts), progress) end)
  end

  # What a native function raises carries its arguments, and with them the token, to wherever that
  # is printed.
  defp native(name, call) do
    # Once it is loaded, downloads need nothing else of the application.
    if Native.loaded?() do
      with {:error, error} <- Error.from_native(call.()), do: {:error, hint(error, name)}
    else
      Directory.not_started()
    end
  rescue
    ArgumentError ->
      Error.error(:invalid_argument, "the native library does not take these options for the Hub")

    error in ErlangError ->
      Error.error(:internal, "the native library failed: #{inspect(error.original)}")
  end

  # Whoever has the model here, or its page in front of them, gives what they have.
  defp hint(error, name) do
    cond do
      error.reason == :invalid_name and name =~ ~r{://|\A(www\.)?(huggingface|hf)\.co/} ->
        way_out(
          error,
          ~s(of an address only the name at its end is taken, as in "openai/clip-vit-base-patch32"; ) <>
            "a model on this machine is given as {:local, directory}"
        )

      error.reason == :invalid_name and name =~ ~r{\A([./~]|[a-zA-Z]:)|\\|/.*/} ->
        way_out(error, "a directory on this machine is given as #{local(name)}")

      error.reason in [:repo_not_found, :unauthorized, :offline, :connection] and File.dir?(name) ->
        way_out(error, "the directory of that name on this machine is given as #{local(name)}")

      true ->
        error
    end
  end

  defp local(name), do: inspect({:local, name}, printable_limit: 200)
  defp way_out(error, text), do: %{error | message: "#{error.message}; #{text}"}

  defp settings(opts) do
    %{
      cache_dir: opts.hub_cache,
      endpoint: opts.hub_endpoint,
      offline: opts.offline,
      refresh: Map.get(opts, :refresh, false),
      token: with(%Secret{} = token <- opts.token, do: Secret.reveal(token)),
      environment: environment()
    }
  end

  # The native library's own view of the environment is that of the moment when the VM started: what
  # `System.put_env/2` does stays within the VM. All of it, since a path may name any variable.
  defp environment do
    for {name, value} <- System.get_env(),
        String.valid?(name <> value),
        into: %{},
        do: {name, value}
  end
end
