defmodule Image.ZeroShot.Hub.Repo do
  @moduledoc false

  # From the `:repo` option to a directory on this machine.

  alias Image.ZeroShot.Call.Options

  @type t ::
          :embedded
          | {:local, Path.t()}
          | String.t()
          | {:hf, String.t()}
          | {:hf, String.t(), keyword()}

  @typedoc """
  What tells one model from another. How it is fetched, with which token and whether at all, does
  not.
  """
  @type source ::
          {:directory, Path.t()}
          | {:hub, name :: String.t(), revision :: String.t() | nil, cache :: Path.t() | nil,
             endpoint :: String.t() | nil}

  @spec source(Options.t()) :: source()
  def source(%{repo: :embedded}),
    do: {:directory, embedded()}

  def source(%{repo: {:local, directory}}), do: {:directory, absolute(directory)}

  def source(opts),
    do: {:hub, hub_name(opts.repo), opts.revision, opts.hub_cache, opts.hub_endpoint}

  # Every call asks, and the code server answers one process after the other.
  defp embedded do
    with nil <- :persistent_term.get(__MODULE__, nil) do
      directory = Application.app_dir(:image_zero_shot, "priv/models/emoji-clip")
      :persistent_term.put(__MODULE__, directory)
      directory
    end
  end

  @doc """
  An absolute path. `Path.expand/1` asks a process for the current directory, wanted or not, and a
  thousand callers at once would wait for it.
  """
  @spec absolute(Path.t()) :: Path.t()
  def absolute(path) do
    if Path.type(path) == :absolute and not (path =~ ~r{//|/\.\.?(/|\z)|./\z}),
      do: path,
      else: Path.expand(path)
  end

  @doc """
  The model's name for people: of a model of the Hub the one it has there.
  """
  @spec name(source()) :: String.t()
  def name({:directory, directory}), do: Path.basename(directory)
  def name({:hub, name, _revision, _cache, _endpoint}), do: name

  @doc """
  The name on the Hub of a `:repo` option, `nil` if that is another place.
  """
  @spec hub_name(t()) :: String.t() | nil
  def hub_name({:hf, name}), do: name
  def hub_name({:hf, name, _opts}), do: name
  def hub_name(name) when is_binary(name), do: name
  def hub_name(_other), do: nil
end
