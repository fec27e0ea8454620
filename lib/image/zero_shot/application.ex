defmodule Image.ZeroShot.Application do
  @moduledoc false

  use Application

  @impl true
  def start(_type, _args) do
    :ok = Image.ZeroShot.Native.Loader.base!()
    :ok = Image.ZeroShot.Call.OptionValues.warn_of_unknown_configuration()

    # A registry that restarts has forgotten which servings there are: those go with it.
    Supervisor.start_link(
      Image.ZeroShot.Serving.Directory.tree() ++
        [Image.ZeroShot.Call.VocabularyCache, Image.ZeroShot.Picture.FileQueue],
      strategy: :rest_for_one,
      name: Image.ZeroShot.Supervisor
    )
  end
end
